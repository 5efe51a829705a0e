//! Bugs planted in the SQL functions. The replay must find each of them.

use crate::{
    cover::cover,
    explore::explore,
    model::{Model, Rows},
    replay::Replay,
    shapes::shapes,
    states::{Detail, Left},
};

/// A name, a function, a part of its text, and the replacement that is the bug.
const BUGS: &[(&str, &str, &str, &str)] = &[
    ("no fence", "complete_v1", "s.lease = i.lease and s.state in", "s.state in"),
    ("a deadline that moved still counts", "complete_v1", "(not i.if_due or s.wake_at <= tasker.clock())", "true"),
    ("a worker's loss is not counted", "complete_v1", "then s.losses + 1", "then s.losses"),
    ("losses are kept over a retry", "complete_v1", "when i.verdict = 'retry' then 0 else", "else"),
    ("a late outcome is not recorded", "complete_v1", "s.lease > i.lease and i.lease > 0", "false"),
    ("any second outcome is a duplicate", "complete_v1", "a.applied and a.digest = i.digest", "a.applied"),
    ("any second success is a duplicate", "complete_v1", "s.lease = i.lease and s.digest = i.digest", "s.lease = i.lease"),
    ("a repeated success is not known", "complete_v1", " or s.lease = i.lease and s.digest = i.digest", ""),
    ("the answer of a success is lost", "complete_v1", "then p_digest[i.idx] end", "then null end"),
    (
        "a success is recorded in its row and in attempts",
        "complete_v1",
        "('complete', 'started', 'callback', 'lost')",
        "('started', 'callback', 'lost')",
    ),
    ("a failed step is not counted", "complete_v1", "(o.verdict = 'error')::int", "0"),
    ("no new lease at a dispatch", "advance_v1", "not k.held then s.lease + 1", "not k.held then greatest(s.lease, 1)"),
    ("a child waits for one parent only", "advance_v1", "s.pending_parents = k.n and", "s.pending_parents >= k.n and"),
    ("what became ready is not counted", "advance_v1", "u.task_id, 1, 0 from", "u.task_id, 0, 0 from"),
    ("a failed task is complete", "advance_v1", "then 'error' else 'complete'", "then 'complete' else 'complete'"),
    ("a retry under an old lease", "advance_v1", "s.lease = k.lease and s.state in", "s.state in"),
    ("a retry before its time", "advance_v1", "s.wake_at <= tasker.clock()", "true"),
    ("a retry that uses no attempt", "advance_v1", "s.attempt + (s.state = 'waiting_for_retry')::int", "s.attempt"),
    ("a sweep that forgets retries", "sweep_v1", "('pending', 'waiting_for_retry')", "('pending')"),
    ("no new lease at a cancel", "cancel_v1", "lease = s.lease + 1", "lease = s.lease"),
    ("an operator's retry keeps the budget", "retry_step_v1", "attempt = 0", "attempt = s.attempt"),
    ("an operator's retry in a cancelled task", "refusal", "('running', 'error')", "('running', 'error', 'cancelled')"),
    ("a resolved step keeps its lease", "resolve_step_v1", "lease = s.lease + 1", "lease = s.lease"),
    ("a resolved failure still counts", "resolve_step_v1", "was = 'error' and not was_tolerated", "false"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, function, right, wrong) in BUGS {
        let replay = Replay::new().await;
        replay.replace_in(function, right, wrong).await;
        let run = tokio::spawn(async move {
            // Losses beyond the second need one step and many faults; joins need three steps.
            for (shape, left) in [
                (shapes(1)[0], Left { faults: 3, reports: 3, actions: 1 }),
                (shapes(2)[1], Left { faults: 0, reports: 0, actions: 1 }),
                (shapes(3)[4], Left { faults: 0, reports: 0, actions: 0 }),
            ] {
                let model = Model::new(shape, 2);
                cover(&replay, &model, &explore(&model, left, Detail::Current), Rows::without_past).await;
            }
        });
        match run.await {
            Err(found) if found.is_panic() => println!("found: {bug}"),
            _ => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
