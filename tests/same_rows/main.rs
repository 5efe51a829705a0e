//! The functions for ordinary calls and the general ones leave the same rows and return the same: a random life of two databases,
//! of which one has the general functions only. `SAME_ROWS_SEED` repeats a run, `SAME_ROWS_LIVES` lengthens it.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod graph;
mod life;
mod planted;
mod twins;

use std::collections::BTreeMap;

use life::Life;
use tasker_test_support::Chance;
use twins::{ORDINARY, Twins};

const LIVES: u64 = 4;
const CALLS: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_calls_leave_the_rows_and_answers_of_the_general_functions() {
    let mut chance = Chance::of_run("SAME_ROWS_SEED");
    let lives = std::env::var("SAME_ROWS_LIVES").map_or(LIVES, |text| text.parse().expect("a number"));
    let (mut seen, mut calls) = (BTreeMap::new(), BTreeMap::new());
    let missing = |seen: &BTreeMap<String, usize>| cases().filter(|case| !seen.contains_key(case)).collect::<Vec<_>>();
    // Some cases are rare: a few more lives may be needed for them.
    for life in 0..3 * lives {
        if life >= lives && missing(&seen).is_empty() {
            break;
        }
        let mut life = Life::of(Twins::new().await, Chance::new(chance.number()), life);
        life.live(CALLS).await;
        add(&mut seen, life.seen);
        add(&mut calls, life.twins.product.calls().await);
    }
    println!("{seen:#?}\ncalls of functions: {calls:#?}");
    for (ordinary, _) in ORDINARY {
        assert!(calls.contains_key(*ordinary), "{ordinary} was never called");
    }
    assert!(missing(&seen).is_empty(), "not met: {:?}", missing(&seen));
}

/// What both kinds of ordinary completions, and the submit of one task, must have met.
fn cases() -> impl Iterator<Item = String> {
    let completions = [
        "accepted",
        "duplicate",
        "stale",
        "refused",
        "no child",
        "up to three children",
        "more than three children",
        "children while something is paused",
        "0 became ready",
        "1 became ready",
        "several became ready",
        "a message with the result of one",
        "a message with the results of several",
        "a message with the results of more than 64",
        "large results",
        "results that are too large",
        "a key instead of a message",
        "ends a task as complete",
        "ends a task as error",
    ];
    let submits = ["inserted", "held", "without steps", "the id was known", "the identity was known"];
    let of = |what: &'static str, cases: Vec<&'static str>| cases.into_iter().map(move |case| format!("{what}: {case}"));
    of("a success alone", completions.to_vec())
        .chain(of("successes", completions.to_vec()))
        .chain(of("a submit alone", submits.to_vec()))
}

fn add<N: std::ops::AddAssign + Default>(sum: &mut BTreeMap<String, N>, more: BTreeMap<String, N>) {
    for (key, n) in more {
        *sum.entry(key).or_default() += n;
    }
}
