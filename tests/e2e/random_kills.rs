//! `kill -9` at random moments. `E2E_SEED` repeats the moments of a run that failed, but not what the kills interrupt.

use std::time::{Duration, Instant};

use tasker_test_support::{
    Chance,
    dev::{Dev, Place, Starting, dev_command, python_worker},
    kill_now, let_pass, wait_until,
};

use crate::load::{Accepted, template, workers};

const KILLS: usize = 20;
const CHILD_KILLS: usize = 10;
const TASKS: usize = 40;
/// Tasks of one kill: about as many as are done in the longest life of a process.
const TASKS_OF_A_MOMENT: usize = 12;
/// The longest time in milliseconds before a process is killed: from its first task on, or from its launch on, of which a start
/// takes about half.
const LONGEST_LIFE: usize = 1200;
/// The most by which a kill delays the end of all tasks, with the restart.
const RECOVERY: Duration = Duration::from_secs(5);
/// A busy machine may be late once or twice, but not three times for the same kill.
const TRIES: usize = 3;

/// When a process is killed, in milliseconds, and whether everything that it started is killed with it.
#[derive(Debug, Clone, Copy)]
struct Kill {
    after: u64,
    everything: bool,
}

impl Kill {
    fn draw(chance: &mut Chance) -> Self {
        Self { after: chance.below(LONGEST_LIFE) as u64, everything: chance.permille(500) }
    }
}

fn place() -> Place {
    let place = Place::create();
    place.template(&template());
    place
}

#[test]
fn twenty_kills_at_random_moments_lose_no_task_cost_no_attempt_and_delay_by_five_seconds_at_most() {
    let mut chance = Chance::of_run("E2E_SEED");
    let worker = python_worker("python");
    let arguments = ["--max-concurrent-handlers", "3", "--worker", worker.as_str()];
    let place = place();
    let mut dev = Dev::start(&place, &arguments);
    let begun = Instant::now();
    ask(&dev).assert_complete(&dev, 0);
    let undisturbed = begun.elapsed();
    println!("undisturbed: {undisturbed:.1?}");

    for no in 1..=KILLS {
        // After every third kill, the next start is killed too.
        let (kill, next) = (Kill::draw(&mut chance), (no % 3 == 0).then(|| Kill::draw(&mut chance)));
        let mut delays = Vec::new();
        while delays.last().is_none_or(|delay| *delay > RECOVERY) {
            assert!(delays.len() < TRIES, "{kill:?}, {next:?}: {delays:.1?} later than {undisturbed:.1?}");
            let took;
            (dev, took) = survive(&place, &arguments, dev, kill, next);
            delays.push(took.saturating_sub(undisturbed));
        }
        println!("kill {no}, {kill:?}, {next:?}: {delays:.1?} later");
    }
    dev.assert_healthy();
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left");
}

/// Kills the process while it runs tasks. Answers how long they take from the first request until all are complete, with the
/// restart. A start that is killed too is not counted.
fn survive(place: &Place, arguments: &[&str], mut dev: Dev, kill: Kill, next: Option<Kill>) -> (Dev, Duration) {
    let begun = Instant::now();
    let accepted = ask(&dev);
    let_pass(Duration::from_millis(kill.after).saturating_sub(begun.elapsed()));
    end(place, &mut dev.child, kill.everything);
    let killed = Instant::now();
    if let Some(kill) = next {
        let mut next = Starting::launch(dev_command(place, arguments));
        let_pass(Duration::from_millis(kill.after));
        end(place, &mut next.child, kill.everything);
    }
    let wasted = killed.elapsed();
    let dev = Starting::launch(dev_command(place, arguments)).ready();
    accepted.assert_complete(&dev, 0);
    (dev, begun.elapsed().saturating_sub(wasted))
}

fn ask(dev: &Dev) -> Accepted {
    let mut accepted = Accepted::default();
    accepted.ask(dev, TASKS_OF_A_MOMENT);
    accepted
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
    let mut chance = Chance::of_run("E2E_SEED");
    let place = place();
    let worker = python_worker("python");
    let dev = Dev::start(&place, &["--worker", worker.as_str()]);
    let mut accepted = Accepted::default();
    let begun = Instant::now();
    let mut killed = 0;
    for _ in 0..CHILD_KILLS {
        accepted.ask(&dev, TASKS / CHILD_KILLS);
        // A worker that is killed during its start is restarted after ever longer pauses, which this does not test.
        wait_until("a worker works", || accepted.newest_has_begun(&dev));
        let_pass(Duration::from_millis(chance.below(250) as u64));
        for pid in workers(&place) {
            // It may have ended by itself meanwhile, if it was not needed any more.
            kill_now(pid);
            killed += 1;
        }
    }
    // If a worker dies three times while it runs one step alone, the step loses an attempt.
    accepted.assert_complete(&dev, killed / 3);
    println!("{killed} workers killed; {} tasks finished after {:.1?}", accepted.len(), begun.elapsed());
    dev.assert_healthy();
    assert!(dev.stop());
    assert_eq!(place.processes(), Vec::<i32>::new(), "nothing is left");
}
