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
    ("a late outcome is not recorded", "complete_v1", "i.lease > 0 and not i.if_due", "false"),
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
    ("no fence", "complete_one_v1", "s.lease = p_lease and s.state in", "s.state in"),
    ("the answer of a success is lost", "complete_one_v1", "digest = p_digest,", "digest = null,"),
    ("a success is recorded in its row and in attempts", "complete_one_v1", "  answer.kind := 'accepted';", AGAIN_ONE),
    ("no new lease at a dispatch", "complete_one_v1", "then s.lease + 1 else", "then s.lease else"),
    ("a child waits for one parent only", "complete_one_v1", "pending is distinct from 0", "pending is null"),
    (
        "a child that is not ready is enqueued",
        "complete_one_v1",
        "state = case s.pending_parents when 1",
        "state = case 1 when 1",
    ),
    ("what became ready is not counted", "complete_one_v1", "t.active_steps + ready", "t.active_steps + least(ready, 1)"),
    ("nothing became ready, and nobody counts", "complete_one_v1", "if ready <> 1 then", "if below = '{}' then"),
    ("a failed task is complete", "complete_one_v1", "then 'error' else 'complete'", "then 'complete' else 'complete'"),
    ("a message with the result of one parent", "complete_one_v1", "d.parents = array[p_no]", "p_no = any (d.parents)"),
    ("a message without further ancestors", "complete_one_v1", "and d.further_ancestors = '{}'", ""),
    ("no fence", "complete_many_v1", "s.lease = p_lease[i] and s.state in", "s.state in"),
    ("the answer of a success is lost", "complete_many_v1", "digest = p_digest[i],", "digest = null,"),
    (
        "a success is recorded in its row and in attempts",
        "complete_many_v1",
        "  return query select c.* from unnest(ok)",
        AGAIN_MANY,
    ),
    ("no new lease at a dispatch", "complete_many_v1", "then s.lease + 1 else", "then s.lease else"),
    ("a child waits for one parent only", "complete_many_v1", "h.pending_parents = 0", "h.pending_parents >= 0"),
    ("what became ready is not counted", "complete_many_v1", "unnest(d_task || r_task)", "unnest(d_task)"),
    ("a failed task is complete", "complete_many_v1", "then 'error' else 'complete'", "then 'complete' else 'complete'"),
    ("a message without further ancestors", "complete_many_v1", "unnest(r.parents || r.further_ancestors)", "unnest(r.parents)"),
    ("no new lease at a dispatch", "advance_v1", "not k.held then s.lease + 1", "not k.held then greatest(s.lease, 1)"),
    ("a child waits for one parent only", "advance_v1", "s.pending_parents = k.n and", "s.pending_parents >= k.n and"),
    ("what became ready is not counted", "advance_v1", "u.task_id, 1, 0 from", "u.task_id, 0, 0 from"),
    ("a failed task is complete", "advance_v1", "then 'error' else 'complete'", "then 'complete' else 'complete'"),
    ("a retry under an old lease", "advance_v1", "s.lease = k.lease and s.state in", "s.state in"),
    ("a retry before its time", "advance_v1", "s.wake_at <= tasker.clock()", "true"),
    ("a retry that uses no attempt", "advance_v1", "s.attempt + (s.state = 'waiting_for_retry')::int", "s.attempt"),
    ("a sweep that forgets retries", "sweep_v1", "('pending', 'waiting_for_retry')", "('pending')"),
    ("no new lease at a cancel", "end_task", "lease = s.lease + 1", "lease = s.lease"),
    ("an operator's retry keeps the budget", "retry_step", "attempt = 0", "attempt = s.attempt"),
    ("an operator's retry in a cancelled task", "refusal", "('running', 'error')", "('running', 'error', 'cancelled')"),
    ("a resolved step keeps its lease", "resolve_step", "lease = s.lease + 1", "lease = s.lease"),
    ("a resolved failure still counts", "resolve_step", "own.state in ('error', 'cancelled') and not own.tolerated", "false"),
];

const AGAIN_ONE: &str =
    "  insert into tasker.attempts (task_id, no, lease, attempt, outcome, applied, digest, worker, duration_ms, finished_at)
  values (p_task, p_no, p_lease, p_attempt, 'success', true, p_digest, p_worker, p_duration_ms, tasker.clock());
  answer.kind := 'accepted';";
const AGAIN_MANY: &str =
    "  insert into tasker.attempts (task_id, no, lease, attempt, outcome, applied, digest, worker, duration_ms, finished_at)
  select p_task[i], p_no[i], p_lease[i], p_attempt[i], 'success', true, p_digest[i], p_worker[i], p_duration_ms[i], tasker.clock()
  from unnest(ok) i;
  return query select c.* from unnest(ok)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for (bug, function, right, wrong) in BUGS {
        let replay = Replay::new().await;
        replay.replace_in(function, right, wrong).await;
        let run = tokio::spawn(async move {
            // Losses beyond the second need one step and many faults; forks, joins and grandparents need three steps.
            for (shape, left) in [
                (shapes(1)[0], Left { faults: 3, reports: 3, actions: 1 }),
                (shapes(2)[1], Left { faults: 0, reports: 0, actions: 1 }),
                (shapes(3)[2], Left { faults: 0, reports: 0, actions: 0 }),
                (shapes(3)[3], Left { faults: 0, reports: 0, actions: 0 }),
                (shapes(3)[4], Left { faults: 0, reports: 0, actions: 0 }),
            ] {
                let model = Model::new(shape, 2);
                cover(&replay, &model, &explore(&model, left, Detail::Current), Rows::without_past, true).await;
            }
        });
        match run.await {
            Err(found) if found.is_panic() => println!("found in {function}: {bug}"),
            _ => missed.push((function, bug)),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
