//! `kill -9` at random moments. `E2E_SEED` replays the moments of a run that failed; what they meet is the machine's to say.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    dev::{Dev, Place, Starting, dev_command, let_pass, python_worker, wait_until},
    load::{Accepted, template, workers},
};

const KILLS: usize = 20;
const CHILD_KILLS: usize = 10;
const TASKS: usize = 40;
/// The longest that a life lasts before it is killed, from its launch on: a start takes about half of it.
const LONGEST_LIFE: u64 = 1200;

/// Numbers that follow from a seed (splitmix64).
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let seed = std::env::var("E2E_SEED").ok().map(|s| s.parse().expect("E2E_SEED is a number"));
        let seed = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u128() as u64);
        println!("seed {seed}; E2E_SEED={seed} replays it");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

fn place() -> Place {
    let place = Place::new();
    place.template(&template());
    place
}

/// How long the same tasks take when nothing is killed.
fn undisturbed(arguments: &[&str]) -> Duration {
    let place = place();
    let dev = Dev::start(&place, arguments);
    let begun = Instant::now();
    let mut accepted = Accepted::default();
    accepted.ask(&dev, TASKS);
    accepted.assert_complete(&dev, 0);
    let took = begun.elapsed();
    assert!(dev.stop());
    took
}

#[test]
fn twenty_kills_at_random_moments_lose_no_task_and_cost_no_attempt() {
    let mut moments = Moments::new();
    let worker = python_worker("python");
    let arguments = ["--max-concurrent-handlers", "3", "--worker", worker.as_str()];
    let undisturbed = undisturbed(&arguments);

    let place = place();
    let mut accepted = Accepted::default();
    let mut dev = Dev::start(&place, &arguments);
    let begun = Instant::now();
    accepted.ask(&dev, TASKS / 2);
    // Time in which nothing was served.
    let mut down = Duration::ZERO;
    let mut kills = 0;
    while kills < KILLS {
        accepted.ask(&dev, 1);
        let_pass(Duration::from_millis(moments.below(LONGEST_LIFE / 4)));
        let killed = Instant::now();
        end(&place, &mut dev.child, moments.below(2) == 0);
        kills += 1;
        let mut next = Starting::launch(dev_command(&place, &arguments));
        if kills % 2 == 1 {
            // This one is killed while it starts, or a little after.
            let_pass(Duration::from_millis(moments.below(LONGEST_LIFE)));
            end(&place, &mut next.child, moments.below(2) == 0);
            kills += 1;
            next = Starting::launch(dev_command(&place, &arguments));
        }
        dev = next.ready();
        down += killed.elapsed();
    }
    accepted.ask(&dev, TASKS.saturating_sub(accepted.len()));
    accepted.assert_complete(&dev, 0);
    let extra = begun.elapsed().saturating_sub(down).saturating_sub(undisturbed);
    println!("undisturbed {undisturbed:.1?}; killed: {extra:.1?} longer, and {down:.1?} of restarts; {} tasks", accepted.len());
    dev.assert_healthy();
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left");
}

/// `kill -9` for the process, or for everything that it started too.
fn end(place: &Place, child: &mut std::process::Child, everything: bool) {
    child.kill().unwrap();
    if everything {
        place.kill_everything();
    }
    child.wait().unwrap();
}

#[test]
fn workers_that_are_killed_again_and_again_lose_no_task() {
    let mut moments = Moments::new();
    let place = place();
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", worker.as_str()]);
    let mut accepted = Accepted::default();
    let begun = Instant::now();
    let mut killed = 0;
    for _ in 0..CHILD_KILLS {
        accepted.ask(&dev, TASKS / CHILD_KILLS);
        // One that is killed while it starts is started after ever longer pauses, which is not what is looked at here.
        wait_until("a worker works", || accepted.newest_has_begun(&dev));
        let_pass(Duration::from_millis(moments.below(250)));
        for pid in workers(&place) {
            // It may have ended by itself meanwhile, as one that is there only while it is needed.
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
            killed += 1;
        }
    }
    // Three deaths of a worker that has one step alone in its hands are blamed on the step.
    accepted.assert_complete(&dev, killed / 3);
    println!("{killed} workers killed; {} tasks finished after {:.1?}", accepted.len(), begun.elapsed());
    dev.assert_healthy();
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left");
}
