//! What is said of tasks and steps, as a table: each reason, and which of several comes first.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tasker_domain::{
    explain::*,
    staleness::{Entered, LifecycleFacts, WaitingStep},
    template::{Lifecycle, StalenessAction, Workflow, parse},
};
use tasker_wire::{
    Remedy, StepReason, StepState, TaskReason, TaskState,
    ids::{position, step_no},
};

use StepState::*;

/// `start` is followed by a decision over `a` and `b`, which `join` gathers, and by a batch of `work`, which `sum` gathers; `end` follows
/// both. `slow` has no other step after it.
fn workflow() -> Workflow {
    let steps = "
        {name: start}, {name: slow, dependencies: [start], worker: gpu, retry: {max_attempts: 3}},
        {name: route, type: decision, dependencies: [start]}, {name: a, dependencies: [route]}, {name: b, dependencies: [route]},
        {name: join, type: deferred_convergence, dependencies: [a, b]},
        {name: split, type: batchable, dependencies: [start], batch_config: {worker_template: work, failure_strategy: fail_fast, parallelism: 2}},
        {name: work, type: batch_worker, dependencies: [split], retry: {max_attempts: 2}},
        {name: sum, dependencies: [work]}, {name: end, dependencies: [join, sum]}";
    let steps = steps.replace("{name:", "{handler: {callable: x}, name:");
    let template = parse(&format!("{{name: order, namespace_name: shop, version: 1.0.0, steps: [{steps}]}}"));
    template.unwrap_or_else(|faults| panic!("{faults}")).0.workflow("").unwrap()
}

fn now() -> Timestamp {
    "2026-11-28T14:32:21Z".parse().unwrap()
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(now() + SignedDuration::from_secs(seconds))
}

/// A step in the first of three attempts. A worker's name is its pattern's and a number.
fn step(name: &str, state: StepState) -> StepFacts {
    let (pattern, worker) = name.split_once('_').map_or((name, 0), |(pattern, worker)| (pattern, worker.parse().unwrap()));
    let at_position = workflow().steps.iter().position(|step| step.name == pattern).unwrap();
    StepFacts {
        no: step_no(at_position) + worker,
        name: name.into(),
        state,
        attempt: 1,
        max_attempts: 3,
        parents: 1,
        pending_parents: i32::from(state == Pending),
        tolerated: false,
        awaits_callback: false,
        wake_at: None,
        held_at: None,
        dispatched_at: at(-60),
        started_at: None,
        resends: 0,
        losses: 0,
        checkpoint: None,
        failure: matches!(state, Error | WaitingForRetry).then(|| ["declined".into(), "no money".into()]),
        hint_seconds: None,
    }
}

/// A running task of ten steps with these unfinished ones.
fn task(steps: Vec<StepFacts>) -> TaskFacts {
    let mut open = BTreeMap::new();
    for step in steps.iter().filter(|step| !step.tolerated) {
        *open.entry(position(step.no).unwrap()).or_default() += 1;
    }
    TaskFacts {
        now: now(),
        state: TaskState::Running,
        namespace: "shop".into(),
        name: "order".into(),
        created_at: now() - SignedDuration::from_mins(10),
        finished_at: None,
        total_steps: 10,
        active_steps: steps.iter().filter(|step| !step.state.is_finished() && step.pending_parents == 0).count() as i32,
        failed_steps: steps.iter().filter(|step| matches!(step.state, Error | Cancelled) && !step.tolerated).count() as i32,
        ended: None,
        pauses: vec![],
        entries: vec![],
        bounds: None,
        batches: vec![BatchFacts { pattern: 7, parallelism: 2, open: true }],
        open,
        tolerated: steps.iter().filter(|step| step.tolerated).count() as i64,
        steps,
    }
}

fn finished(state: TaskState, steps: Vec<StepFacts>) -> TaskFacts {
    let ended = Some(Ending { actor: "kim".into(), reason: "a typo".into() });
    TaskFacts { state, finished_at: at(-120), ended, active_steps: 0, ..task(steps) }
}

fn pause(of: Paused) -> PauseFacts {
    PauseFacts { of, since: now() - SignedDuration::from_hours(5), actor: "sam".into(), reason: "ledger migration".into() }
}

fn paused(pauses: &[Paused], steps: Vec<StepFacts>) -> TaskFacts {
    TaskFacts { pauses: pauses.iter().copied().map(pause).collect(), ..task(steps) }
}

fn said(facts: &TaskFacts) -> Explanation {
    let unserved = Some("waits for a worker of pool gpu; none is known".to_owned());
    explain(facts, Some(&workflow()), |step| match step.worker.as_deref() {
        Some("gpu") => Pool { name: "gpu".into(), unserved: unserved.clone() },
        _ => Pool { name: "default".into(), unserved: None },
    })
}

/// What is expected of a step: reason, sentence, the steps it waits for, seconds until it changes, and what helps.
type Expected<'a> = (StepReason, &'a str, &'a [&'a str], Option<i64>, Option<(Remedy, Option<&'a str>, &'a str)>);

#[track_caller]
fn says(facts: TaskFacts, name: &str, (reason, sentence, waits_for, seconds, act): Expected) {
    let explained = said(&facts);
    let step = explained.steps.iter().find(|step| step.name == name).unwrap();
    let expected = Said {
        reason,
        sentence: sentence.into(),
        waits_for: waits_for.iter().map(|&name| name.to_owned()).collect(),
        changes_at: seconds.and_then(at),
        act: act.map(|(remedy, step, sentence)| Act { remedy, step: step.map(str::to_owned), sentence: sentence.into() }),
    };
    assert_eq!(step.said, expected);
}

#[track_caller]
fn says_of_task(facts: TaskFacts, reason: TaskReason, sentence: &str, act: Option<&str>) {
    let task = said(&facts).task;
    assert_eq!((task.reason, task.sentence.as_str()), (reason, sentence));
    assert_eq!(task.act.as_ref().map(|act| act.sentence.as_str()), act);
}

#[test]
fn a_dispatched_step_waits_for_a_worker_of_its_pool() {
    use StepReason::*;
    let dispatched = step("start", Enqueued);
    let waits = "start is dispatched to pool default since 14:31:21 UTC (1 min) in attempt 1 of 3, and no worker has answered.";
    says(task(vec![dispatched.clone()]), "start", (WaitingForWorker, waits, &[], None, None));
    let again = StepFacts { resends: 3, wake_at: at(7200), checkpoint: Some("300".into()), ..dispatched.clone() };
    let sentence =
        format!("{waits} It continues after 300 items. Its message was sent 4 times. It is sent again in 2 h (16:32:21 UTC).");
    says(task(vec![again]), "start", (WaitingForWorker, &sentence, &[], Some(7200), None));
    let slow = step("slow", Enqueued);
    let sentence = "slow waits for a worker of pool gpu; none is known. It is dispatched since 14:31:21 UTC (1 min).";
    let act = (Remedy::StartWorkers, Some("slow"), "Start a worker of pool gpu.");
    says(task(vec![slow.clone()]), "slow", (NoWorkers, sentence, &[], None, Some(act)));
    // A missing worker is the reason, whatever became of the message.
    let entry = |step: &StepFacts, reason: &str| EntryFacts {
        no: Some(step.no),
        reason: reason.into(),
        detail: "poison".into(),
        since: now(),
    };
    let facts = TaskFacts { entries: vec![entry(&slow, "manual_dlq")], ..task(vec![slow.clone()]) };
    let sentence = format!("{sentence} DLQ entry manual_dlq since 14:32:21 UTC (0 s).");
    says(facts, "slow", (NoWorkers, &sentence, &[], None, Some(act)));
    let sent = StepFacts { wake_at: at(60), ..dispatched };
    let facts = TaskFacts { entries: vec![entry(&sent, "manual_dlq")], ..task(vec![sent.clone()]) };
    let sentence = "The message of start was given up since 14:32:21 UTC (0 s): poison. It is sent again in 1 min (14:33:21 UTC). \
                    DLQ entry manual_dlq since 14:32:21 UTC (0 s).";
    let act = (Remedy::ExamineDeadLetters, Some("start"), "See why in the dead letters, and mend that.");
    says(facts, "start", (DeadLetter, sentence, &[], Some(60), Some(act)));
    let facts = TaskFacts { entries: vec![entry(&sent, "worker_unavailable")], ..task(vec![sent]) };
    let sentence =
        format!("{waits} It is sent again in 1 min (14:33:21 UTC). DLQ entry worker_unavailable since 14:32:21 UTC (0 s).");
    says(facts, "start", (WaitingForWorker, &sentence, &[], Some(60), None));
}

#[test]
fn a_started_step_says_what_its_silence_leads_to() {
    use StepReason::*;
    let runs = StepFacts { started_at: at(-30), wake_at: at(10), ..step("slow", InProgress) };
    let sentence = "slow runs since 14:31:51 UTC (30 s) in attempt 1 of 3. If nothing is heard of it, in 10 s (14:32:31 UTC) it is \
                    dispatched again under the same attempt.";
    says(task(vec![runs.clone()]), "slow", (Running, sentence, &[], Some(10), None));
    let lost = StepFacts { losses: 2, wake_at: at(0), ..runs.clone() };
    let sentence = "slow is silent: its worker did not report until 14:32:21 UTC. With the next sweep attempt 1 of 3 fails, and \
                    another one follows: its worker was lost 3 times.";
    says(task(vec![lost.clone()]), "slow", (Silent, sentence, &[], Some(0), None));
    let sentence = "slow runs since 14:31:51 UTC (30 s) in attempt 1 of 3. If nothing is heard of it, in 10 s (14:32:31 UTC) it is to be \
                    dispatched again, and the pause of the task since 09:32:21 UTC (5 h) by sam: ledger migration holds it then.";
    says(paused(&[Paused::Task], vec![runs.clone()]), "slow", (Running, sentence, &[], Some(10), None));
    let last = StepFacts { attempt: 3, ..lost };
    let sentence = "slow is silent: its worker did not report until 14:32:21 UTC. With the next sweep attempt 3 of 3 fails for good: \
                    its worker was lost 3 times.";
    says(task(vec![last]), "slow", (Silent, sentence, &[], Some(0), None));
    let callback = StepFacts { awaits_callback: true, ..runs };
    let sentence =
        "slow waits for its callback. If it does not come, in 10 s (14:32:31 UTC) attempt 1 of 3 fails, and another one follows.";
    says(task(vec![callback.clone()]), "slow", (WaitingForCallback, sentence, &[], Some(10), None));
    let worker = StepFacts { name: "work_1".into(), no: step("work_1", InProgress).no, attempt: 2, max_attempts: 2, ..callback };
    let sentence = "work_1 is silent: its callback did not come until 14:32:11 UTC. With the next sweep attempt 2 of 2 fails for good, and \
                    ends its batch.";
    let late = StepFacts { wake_at: at(-10), ..worker };
    says(task(vec![late]), "work_1", (Silent, sentence, &[], Some(-10), None));
}

#[test]
fn a_failed_attempt_is_followed_by_another_one_at_its_time_unless_a_pause_holds_it_then() {
    use StepReason::{Held, Resuming, WaitingForRetry as Waits};
    let waits = StepFacts { wake_at: at(41), ..step("start", WaitingForRetry) };
    let failed = "start failed in attempt 1 of 3: declined: no money";
    let sentence = format!("{failed}; attempt 2 of 3 begins in 41 s (14:33:02 UTC).");
    says(task(vec![waits.clone()]), "start", (Waits, &sentence, &[], Some(41), None));
    let asked = StepFacts { hint_seconds: Some(40.5), ..waits.clone() };
    let sentence = format!("{failed}; attempt 2 of 3 begins in 41 s (14:33:02 UTC), as its failure asked for at least 40.5 s.");
    says(task(vec![asked]), "start", (Waits, &sentence, &[], Some(41), None));
    let due = StepFacts { wake_at: at(-1), ..waits.clone() };
    let sentence = format!("{failed}; attempt 2 of 3 begins now (due since 14:32:20 UTC).");
    says(task(vec![due.clone()]), "start", (Waits, &sentence, &[], Some(-1), None));

    let by = "the pause of namespace shop since 09:32:21 UTC (5 h) by sam: ledger migration";
    let resume = (Remedy::ResumeNamespace, None, "Resume namespace shop.");
    let sentence = format!("{failed}. It is due in 41 s (14:33:02 UTC), and {by} holds it then.");
    says(paused(&[Paused::Namespace], vec![waits]), "start", (Waits, &sentence, &[], None, Some(resume)));
    let sentence = format!("start is due for its next attempt, and held by {by}.");
    says(paused(&[Paused::Namespace], vec![due.clone()]), "start", (Held, &sentence, &[], None, Some(resume)));
    let held = StepFacts { held_at: at(-1), ..due };
    let sentence =
        "start is due for its next attempt. The pause that held it has ended, and it is dispatched now (due since 14:32:20 UTC).";
    says(task(vec![held]), "start", (Resuming, sentence, &[], Some(-1), None));
}

#[test]
fn a_ready_step_is_held_by_every_pause_in_force() {
    use StepReason::{Held, Resuming};
    let ready = StepFacts { pending_parents: 0, held_at: at(-60), wake_at: at(60), ..step("start", Pending) };
    let since = "since 09:32:21 UTC (5 h) by sam: ledger migration";
    for (of, what, act) in [
        (Paused::Task, "the task", (Remedy::Resume, "Resume the task.")),
        (Paused::Template, "template shop/order", (Remedy::ResumeTemplate, "Resume template shop/order.")),
    ] {
        let sentence = format!("start is ready, and held by the pause of {what} {since}.");
        says(paused(&[of], vec![ready.clone()]), "start", (Held, &sentence, &[], None, Some((act.0, None, act.1))));
    }
    let sentence =
        format!("start is ready, and held by the pause of the task {since}, and by the pause of namespace shop {since}.");
    let act = (Remedy::Resume, None, "Resume the task; the other pauses must end too.");
    let both = [Paused::Task, Paused::Namespace];
    says(paused(&both, vec![ready.clone()]), "start", (Held, &sentence, &[], None, Some(act)));
    let sentence = "start is ready. The pause that held it has ended, and it is dispatched in 1 min (14:33:21 UTC).";
    says(task(vec![ready]), "start", (Resuming, sentence, &[], Some(60), None));
}

#[test]
fn a_step_waits_for_parents_and_says_which_step_holds_it_up() {
    use StepReason::*;
    let end = StepFacts { parents: 2, pending_parents: 2, ..step("end", Pending) };
    let join = StepFacts { parents: 3, ..step("join", Pending) };
    let retry = StepFacts { wake_at: at(41), ..step("a", StepState::WaitingForRetry) };
    let running = StepFacts { wake_at: at(20), ..step("sum", InProgress) };
    let facts = task(vec![retry.clone(), running.clone(), join.clone(), end.clone()]);
    let sentence = "join waits for 1 of 3 parents: a; a failed, and its next attempt is due in 41 s (14:33:02 UTC).";
    says(facts.clone(), "join", (WaitingForParents, sentence, &["a"], None, None));
    let sentence = "end waits for 2 of 2 parents: join, sum; a failed, and its next attempt is due in 41 s (14:33:02 UTC).";
    says(facts, "end", (WaitingForParents, sentence, &["join", "sum"], None, None));

    // A failure holds up more than anything that moves.
    let failed = step("a", Error);
    let retry = (Remedy::Retry, Some("a"), "Retry a, or redo, resolve or skip it.");
    let facts = task(vec![failed, running, join, end]);
    let sentence = "end waits for 2 of 2 parents: join, sum; a failed for good. It never starts by itself.";
    says(facts.clone(), "end", (Blocked, sentence, &["join", "sum"], None, Some(retry)));
    let sentence = "a failed in attempt 1 of 3: declined: no money, and no attempt follows. join waits for it.";
    says(facts, "a", (Failed, sentence, &[], None, Some(retry)));
}

#[test]
fn a_convergence_waits_for_decisions_that_may_add_to_its_parents() {
    use StepReason::*;
    let route = step("route", Enqueued);
    // It exists because of another one of its dependencies.
    let join = StepFacts { parents: 2, ..step("join", Pending) };
    let sentence = "join waits until it is decided which steps it follows, by route; route is dispatched.";
    says(task(vec![route, join.clone()]), "join", (WaitingForDecision, sentence, &["route"], None, None));
    let sentence = "join waits for 1 of 2 parents: route; route failed for good. It never starts by itself.";
    let act = (Remedy::Retry, Some("route"), "Retry route, or redo, resolve or skip it.");
    says(task(vec![step("route", Error), join]), "join", (Blocked, sentence, &["route"], None, Some(act)));
}

#[test]
fn a_worker_waits_for_a_place_until_its_batch_has_stopped() {
    use StepReason::*;
    let rows = |first: StepState| {
        let second = if first == Error {
            step("work_2", StepState::Cancelled)
        } else {
            StepFacts { wake_at: at(9), ..step("work_2", StepState::WaitingForRetry) }
        };
        vec![
            step("work_1", first),
            second,
            step("work_3", Pending),
            StepFacts { pending_parents: 3, parents: 3, ..step("sum", Pending) },
        ]
    };
    let facts = task(rows(Enqueued));
    let sentence = "work_3 waits for a place: its batch runs 2 workers at once, now work_1, work_2.";
    says(facts.clone(), "work_3", (WaitingForPlace, sentence, &["work_1", "work_2"], None, None));
    let sentence =
        "sum waits for 3 of 3 parents: work_1, work_2, work_3; work_2 failed, and its next attempt is due in 9 s (14:32:30 UTC).";
    says(facts, "sum", (WaitingForParents, sentence, &["work_1", "work_2", "work_3"], None, None));

    let closed = vec![BatchFacts { pattern: 7, parallelism: 2, open: false }];
    let facts = TaskFacts { batches: closed.clone(), ..task(rows(Error)) };
    let sentence = "work_3 waits for a place, and its batch has stopped, because work_1 failed.";
    let act = (Remedy::Retry, Some("work_1"), "Retry or resolve work_1: its batch goes on.");
    says(facts.clone(), "work_3", (BatchStopped, sentence, &["work_1"], None, Some(act)));
    let sentence = "work_2 was cancelled, because work_1 of its batch failed.";
    let act = (Remedy::Retry, Some("work_1"), "Retry or resolve work_1: the cancelled workers get a new budget.");
    says(facts, "work_2", (Cancelled, sentence, &["work_1"], None, Some(act)));
    // Of several failures the rows do not tell which one stopped it.
    let two = [rows(Error), vec![step("work_4", Error)]].concat();
    let facts = TaskFacts { batches: closed, ..task(two) };
    let sentence = "work_3 waits for a place, and its batch has stopped, because one of work_1, work_4 failed.";
    let act = (Remedy::Retry, Some("work_1"), "Retry or resolve work_1: its batch goes on.");
    says(facts.clone(), "work_3", (BatchStopped, sentence, &["work_1", "work_4"], None, Some(act)));
    let sentence = "work_2 was cancelled, because one of work_1, work_4 of its batch failed.";
    let act = (Remedy::Retry, Some("work_1"), "Retry or resolve work_1: the cancelled workers get a new budget.");
    says(facts, "work_2", (Cancelled, sentence, &["work_1", "work_4"], None, Some(act)));
    // Without a row of its places, a worker that waits for one is a defect.
    let facts = TaskFacts { batches: vec![], ..task(rows(Enqueued)) };
    let sentence = "work_3 is pending, and nothing that is known keeps it so. This is a defect.";
    let act = (Remedy::RunDoctor, None, "Run tasker-ctl doctor, and report what it prints.");
    says(facts, "work_3", (Unexplained, sentence, &[], None, Some(act)));
}

#[test]
fn a_tolerated_failure_holds_nobody_up() {
    let tolerated = StepFacts { tolerated: true, ..step("work_1", Error) };
    let sum = step("sum", Pending);
    let facts = task(vec![step("work_2", Enqueued), sum, tolerated]);
    let sentence = "work_1 failed in attempt 1 of 3: declined: no money. Its batch goes on without it.";
    says(facts.clone(), "work_1", (StepReason::Tolerated, sentence, &[], None, None));
    let sentence = "sum waits for 1 of 1 parents: work_2; work_2 is dispatched.";
    says(facts, "sum", (StepReason::WaitingForParents, sentence, &["work_2"], None, None));
}

#[test]
fn a_finished_task_says_who_ended_it_and_what_helps() {
    let failed = || step("start", Error);
    says_of_task(
        TaskFacts { finished_at: at(-60), state: TaskState::Complete, ..task(vec![]) },
        TaskReason::Complete,
        "Complete since 14:31:21 UTC (1 min), after 9 min.",
        None,
    );
    let tolerated = StepFacts { tolerated: true, ..step("work_1", Error) };
    says_of_task(
        finished(TaskState::Complete, vec![tolerated]),
        TaskReason::Complete,
        "Complete since 14:30:21 UTC (2 min), after 8 min. 1 failed step tolerated.",
        None,
    );
    let reopen = "Reopen the task: its cancelled steps get a new budget.";
    says_of_task(
        finished(TaskState::Cancelled, vec![step("start", Cancelled)]),
        TaskReason::Cancelled,
        "Cancelled since 14:30:21 UTC (2 min) by kim: a typo.",
        Some(reopen),
    );
    let facts = finished(TaskState::ResolvedManually, vec![failed(), step("slow", Pending)]);
    says_of_task(
        facts.clone(),
        TaskReason::ResolvedManually,
        "Resolved since 14:30:21 UTC (2 min) by kim: a typo. Nothing in it runs again.",
        None,
    );
    let sentence = "slow never runs, because its task was resolved.";
    says(facts, "slow", (StepReason::Abandoned, sentence, &[], None, None));
    let first = "start failed in attempt 1 of 3: declined: no money, and no attempt follows. slow waits for it.";
    let sentence = format!(
        "Failed since 14:30:21 UTC (2 min), ended by kim: a typo. {first} 1 step waits for what failed. Nothing moves by itself."
    );
    says_of_task(
        finished(TaskState::Error, vec![failed(), step("slow", Pending)]),
        TaskReason::Failed,
        &sentence,
        Some("Retry start, or redo, resolve or skip it."),
    );

    let sentence = "Failed since 14:31:21 UTC (1 min): start failed in attempt 1 of 3: declined: no money, and no attempt follows. Nothing moves by itself.";
    let facts = TaskFacts { state: TaskState::Error, finished_at: at(-60), ..task(vec![failed()]) };
    says_of_task(facts, TaskReason::Failed, sentence, Some("Retry start, or redo, resolve or skip it."));
    // A worker may have been cancelled with its task, whatever failed before.
    let cancelled = vec![step("work_1", Error), step("work_2", Cancelled)];
    let act = (Remedy::Reopen, None, reopen);
    says(finished(TaskState::Error, cancelled), "work_2", (StepReason::Cancelled, "work_2 was cancelled.", &[], None, Some(act)));

    // A failed step of a task that ended can be retried only after the task was reopened, if at all.
    let sentence = "start failed in attempt 1 of 3: declined: no money, and no attempt follows.";
    let act = (Remedy::Reopen, None, "Reopen the task, then retry start.");
    says(finished(TaskState::Cancelled, vec![failed()]), "start", (StepReason::Failed, sentence, &[], None, Some(act)));
    says(finished(TaskState::ResolvedManually, vec![failed()]), "start", (StepReason::Failed, sentence, &[], None, None));
    let sentence = "start was cancelled.";
    let act = (Remedy::Reopen, None, reopen);
    says(
        finished(TaskState::Cancelled, vec![step("start", Cancelled)]),
        "start",
        (StepReason::Cancelled, sentence, &[], None, Some(act)),
    );
}

#[test]
fn a_running_task_says_what_moves_and_whether_it_fails_then() {
    let slow = StepFacts { wake_at: at(41), ..step("slow", WaitingForRetry) };
    let moves = "slow failed in attempt 1 of 3: declined: no money; attempt 2 of 3 begins in 41 s (14:33:02 UTC).";
    let facts = task(vec![slow.clone(), step("route", Enqueued), step("end", Pending)]);
    says_of_task(facts.clone(), TaskReason::Running, &format!("7 of 10 steps done. {moves}"), None);
    let task_said = said(&facts).task;
    assert_eq!((task_said.waits_for, task_said.changes_at), (vec!["slow".to_owned(), "route".to_owned()], at(41)));
    let sentence = format!(
        "a failed in attempt 1 of 3: declined: no money, and no attempt follows. 1 step can still move: {moves} Then nothing moves by \
         itself, and the task fails."
    );
    says_of_task(
        task(vec![step("a", Error), slow.clone()]),
        TaskReason::Failing,
        &sentence,
        Some("Retry a, or redo, resolve or skip it."),
    );
    let held = StepFacts { pending_parents: 0, wake_at: at(9), held_at: at(-9), ..step("route", Pending) };
    let sentence = "route is ready, and held by the pause of the task since 09:32:21 UTC (5 h) by sam: ledger migration.";
    says_of_task(paused(&[Paused::Task], vec![held.clone()]), TaskReason::Held, sentence, Some("Resume the task."));
    // What goes on during a pause is said first if it is all that moves.
    let facts = paused(&[Paused::Task], vec![held, step("slow", Enqueued)]);
    assert_eq!(said(&facts).task.reason, TaskReason::Running);
    let missing = explain(&task(vec![slow]), None, |_| unreachable!());
    assert_eq!((missing.task.reason, missing.steps.len(), missing.not_listed), (TaskReason::NoTemplate, 0, 1));
}

#[test]
fn a_failing_task_says_what_follows_what_is_held_and_what_never_starts() {
    let failed = "a failed in attempt 1 of 3: declined: no money, and no attempt follows. join waits for it.";
    let runs = StepFacts { wake_at: at(20), ..step("work_1", InProgress) };
    let moves =
        "work_1 runs since 14:31:21 UTC (1 min) in attempt 1 of 3. If nothing is heard of it, in 20 s (14:32:41 UTC) it is";
    let rows = || {
        let sum = StepFacts { pending_parents: 2, parents: 2, ..step("sum", Pending) };
        vec![step("a", Error), runs.clone(), step("work_2", Pending), sum, step("join", Pending), step("end", Pending)]
    };
    let act = Some("Retry a, or redo, resolve or skip it.");
    let sentence = format!(
        "{failed} 1 step can still move: {moves} dispatched again under the same attempt. 2 steps wait for such steps only, and follow. \
         2 steps never start by themselves. Then nothing moves by itself, and the task fails."
    );
    says_of_task(task(rows()), TaskReason::Failing, &sentence, act);

    let pause = "the pause of the task since 09:32:21 UTC (5 h) by sam: ledger migration";
    let held = StepFacts { pending_parents: 0, wake_at: at(9), held_at: at(-9), ..step("slow", Pending) };
    let sentence = format!(
        "{failed} 1 step can still move: {moves} to be dispatched again, and {pause} holds it then. 3 steps cannot start before the end of \
         {pause}. 2 steps never start by themselves. Then nothing moves by itself."
    );
    says_of_task(paused(&[Paused::Task], [rows(), vec![held]].concat()), TaskReason::Failing, &sentence, act);

    // What is not decided yet may be made, and follow, or not.
    let facts = task(vec![step("a", Error), step("split", Enqueued), step("sum", Pending)]);
    let sentence = "a failed in attempt 1 of 3: declined: no money, and no attempt follows. 1 step can still move: split is dispatched to pool \
                    default since 14:31:21 UTC (1 min) in attempt 1 of 3, and no worker has answered. Which other steps follow is not decided \
                    yet. Then nothing moves by itself, and the task fails.";
    says_of_task(facts.clone(), TaskReason::Failing, sentence, act);
    let facts = TaskFacts { tolerated: 1, ..facts };
    assert!(said(&facts).task.sentence.contains(" at least 1 step can still move: "));
}

/// The task is bounded so, and its steps have waited since 3 minutes.
fn bounded(action: StalenessAction, facts: TaskFacts) -> TaskFacts {
    let ms = |minutes: i64| now().as_millisecond() + minutes * 60_000;
    let waiting = |name: &str| Some(WaitingStep { no: step(name, Enqueued).no, lease: 1, since_ms: ms(-3) });
    let lifecycle = Lifecycle {
        max_duration_minutes: Some(12),
        max_waiting_for_dependencies_minutes: Some(9),
        max_waiting_for_retry_minutes: None,
        max_steps_in_process_minutes: Some(4),
        staleness_action: action,
    };
    let clocks = LifecycleFacts {
        now_ms: ms(0),
        begun_ms: ms(-10),
        waiting: waiting("join"),
        in_process: waiting("a"),
        ..LifecycleFacts::default()
    };
    TaskFacts { bounds: Some(ThresholdFacts { lifecycle, facts: clocks, entered: vec![] }), ..facts }
}

#[test]
fn what_a_threshold_does_is_foretold_and_nothing_is_promised_that_lies_beyond_the_end() {
    use StalenessAction::{Dlq, Error as Ends, None as Nothing};
    let retry = |seconds| StepFacts { wake_at: at(seconds), ..step("slow", WaitingForRetry) };
    let rows = |seconds| task(vec![retry(seconds), step("a", Enqueued), step("join", Pending)]);
    let moves = "7 of 10 steps done. slow failed in attempt 1 of 3: declined: no money; attempt 2 of 3 begins in";
    let foretold = "Unless a moves before, it is stale in 1 min 1 s (14:33:21 UTC): a is in process for more than 4 minutes \
                    (max_steps_in_process_minutes). The next look after that";
    let end = Some(at(60).unwrap() + SignedDuration::from_millis(1));
    let sentence = format!("{moves} 41 s (14:33:02 UTC). {foretold} ends it as error, and cancels its unfinished steps.");
    says_of_task(bounded(Ends, rows(41)), TaskReason::Running, &sentence, None);
    assert_eq!(said(&bounded(Ends, rows(41))).task.changes_at, at(41));

    let late = said(&bounded(Ends, rows(900)));
    let but = "But the next look for stale tasks after 14:33:21 UTC ends its task, unless something moves before.";
    assert!(late.steps[0].said.sentence.ends_with(but), "{late:#?}");
    assert_eq!((late.task.changes_at, late.steps[0].said.changes_at), (end, end));
    let waits = TaskFacts { steps: vec![retry(900), step("route", Pending)], ..rows(900) };
    assert!(said(&bounded(Ends, waits)).steps.iter().all(|step| step.said.changes_at.is_none_or(|at| Some(at) == end)));

    // An entry ends nothing, and one about the same is opened once.
    let sentence = format!("{moves} 15 min (14:47:21 UTC). {foretold} opens a DLQ entry, and it goes on.");
    says_of_task(bounded(Dlq, rows(900)), TaskReason::Running, &sentence, None);
    assert_eq!(said(&bounded(Dlq, rows(900))).steps[0].said.changes_at, at(900));
    let plain = format!("{moves} 15 min (14:47:21 UTC).");
    says_of_task(bounded(Nothing, rows(900)), TaskReason::Running, &plain, None);
    let mut entered = bounded(Dlq, rows(900));
    entered.bounds.as_mut().unwrap().entered.push(Entered {
        threshold: "max_steps_in_process_minutes".into(),
        no: Some(step("a", Enqueued).no),
        lease: Some(1),
        at_ms: now().as_millisecond(),
    });
    says_of_task(entered.clone(), TaskReason::Running, &plain, None);
    let entry = |no| EntryFacts { no, reason: "staleness_timeout".into(), detail: "max_x".into(), since: now() };
    let open = "DLQ entry staleness_timeout since 14:32:21 UTC (0 s) because of max_x: an operator";
    says_of_task(
        TaskFacts { entries: vec![entry(None)], ..entered.clone() },
        TaskReason::Running,
        &format!("{plain} {open} investigates it."),
        None,
    );
    says_of_task(
        TaskFacts { entries: vec![entry(Some(retry(0).no))], ..entered },
        TaskReason::Running,
        &format!("{plain} {open} recovers or investigates it."),
        None,
    );
    let ended = TaskFacts { entries: vec![entry(None)], ..finished(TaskState::Error, vec![step("start", Cancelled)]) };
    assert!(said(&ended).task.sentence.ends_with(&format!("{open} recovers or investigates it.")));

    let mut stale = bounded(Ends, rows(41));
    stale.bounds.as_mut().unwrap().facts.begun_ms -= 150_000;
    let sentence = format!(
        "{moves} 41 s (14:33:02 UTC). But the next look for stale tasks after 14:31:51 UTC ends its task, unless something moves before. It is \
         stale since 14:31:51 UTC: it runs for more than 12 minutes (max_duration_minutes). The next look ends it as error, and cancels its \
         unfinished steps."
    );
    says_of_task(stale, TaskReason::Running, &sentence, None);
}

#[test]
fn steps_that_hold_up_others_come_first_and_long_lists_end_with_a_number() {
    let mut rows = vec![step("sum", Pending), step("slow", Enqueued)];
    rows.extend((1..=300).map(|n| step(&format!("work_{n}"), Enqueued)));
    rows.push(step("a", Error));
    rows[0].pending_parents = 300;
    let mut facts = task(rows);
    facts.open.insert(7, 9_000);
    let explained = said(&facts);
    let order: Vec<&str> = explained.steps.iter().map(|step| step.name.as_str()).take(3).collect();
    assert_eq!((order, explained.not_listed), (vec!["a", "slow", "work_1"], 8_700));
    let sum = &explained.steps.last().unwrap().said;
    let ten = "work_1, work_2, work_3, work_4, work_5, work_6, work_7, work_8, work_9, work_10 and 290 more";
    assert!(sum.sentence.contains(ten) && sum.waits_for.len() == 10, "{sum:?}");
}
