//! Differences planted in the functions of one database. A life must find each of them.

use tasker_test_support::Chance;

use crate::{CALLS, LIVES, life::Life, twins::Twins};

/// A name, a function, a part of its text, and the replacement that is the difference.
const DIFFERENCES: &[(&str, &str, &str, &str)] = &[
    ("no fence", "complete_v1", "s.lease = i.lease and s.state in", "s.state in"),
    ("a failed task is complete", "advance_v1", "then 'error' else 'complete'", "then 'complete' else 'complete'"),
    ("the entry for an operator is forgotten", "advance_v1", "where u.state = 'error'", "where false"),
    ("a held step is dispatched", "advance_v1", "t.paused_at is not null or", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_difference_is_found() {
    let mut chance = Chance::of_run("SAME_ROWS_SEED");
    let mut missed = Vec::new();
    for (difference, function, right, wrong) in DIFFERENCES {
        let mut found = false;
        for life in 0..LIVES {
            let twins = Twins::new().await;
            twins.product.replace_in(function, right, wrong).await;
            let mut one = Life::of(twins, Chance::new(chance.number()));
            found = tokio::spawn(async move { one.live(CALLS).await }).await.is_err();
            if found {
                println!("found in life {}: {difference}", life + 1);
                break;
            }
        }
        if !found {
            missed.push(difference);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
