//! Two calls at once, of which the first is stopped within its function until the other one waits for it or has passed by. Every scenario
//! fails once the lock or the condition that it is about is taken out.

use std::{collections::BTreeMap, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use serde_json::json;
use tasker_engine::{OperatorAction, Precondition};
use tasker_store::PauseScope;
use tasker_test_support::poll;
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId};

use crate::{
    batches::{act, with_workers},
    decisions::create,
    rig::{Plant, Rig, by, failure, permanent, request_of, success, template, workflow},
};

const WAITING: &str = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";

/// A place in a function where calls stop until it is opened.
struct Gate(tokio_postgres::Client);

impl Gate {
    async fn before(rig: &Rig, function: &str, text: &str) -> Self {
        rig.plant((function, text, &format!("perform pg_advisory_xact_lock_shared(1);\n{text}"))).await;
        Self::new(rig).await
    }

    async fn new(rig: &Rig) -> Self {
        let client = rig.db.client().await;
        client.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        Self(client)
    }

    /// The second call begins when the first one has come to the gate, which opens when the second one waits or has ended.
    async fn race<A, B>(self, rig: &Rig, first: impl Calls<A>, second: impl Calls<B>) -> (A, B)
    where
        A: Send + 'static,
        B: Send + 'static,
    {
        let first = tokio::spawn(first);
        rig.until(&format!("select ({WAITING}) = 1")).await;
        let second = tokio::spawn(second);
        let met = async || (second.is_finished() || rig.count(WAITING).await == 2).then_some(());
        poll(Duration::from_millis(2), met).await.expect("the second call meets the first one, or passes by");
        self.0.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        (first.await.unwrap(), second.await.unwrap())
    }
}

impl Gate {
    /// The others begin when the first one has come to the gate, which opens when each of them waits or has ended. None of them may come
    /// to it.
    async fn race_all<T: Send + 'static>(self, rig: &Rig, calls: impl IntoIterator<Item = impl Calls<T>>) -> Vec<T> {
        let mut calls = calls.into_iter();
        let mut running: Vec<_> = calls.by_ref().take(1).map(tokio::spawn).collect();
        rig.until(&format!("select ({WAITING}) = 1")).await;
        running.extend(calls.map(tokio::spawn));
        let met = async || {
            let ended = running.iter().filter(|call| call.is_finished()).count();
            (rig.count(WAITING).await as usize + ended == running.len()).then_some(())
        };
        poll(Duration::from_millis(2), met).await.expect("each call meets the first one, or passes by");
        assert_eq!(rig.count(&format!("{WAITING} and wait_event = 'advisory'")).await, 1, "each waits before the gate");
        self.0.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        futures::future::join_all(running).await.into_iter().map(Result::unwrap).collect()
    }
}

trait Calls<T>: Future<Output = T> + Send + 'static {}
impl<T, F: Future<Output = T> + Send + 'static> Calls<T> for F {}

fn answer(rig: &Rig, run: &RunStep, outcome: Outcome) -> impl Calls<Answer> {
    let (engine, completion) = (rig.engine.clone(), run.complete(outcome, "scripted", 1));
    async move { engine.complete(vec![completion]).await.unwrap()[0] }
}

/// The scenario succeeds, and fails with each of these bugs.
pub async fn finds(scenario: impl AsyncFn(Rig), bugs: &[Plant]) {
    scenario(Rig::still().await).await;
    for &bug in bugs {
        let rig = Rig::still().await;
        rig.plant(bug).await;
        assert!(AssertUnwindSafe(scenario(rig)).catch_unwind().await.is_err(), "not found: {bug:?}");
    }
}

/// A task whose `start` is done, and the steps that are dispatched then.
async fn started(rig: &Rig, steps: serde_json::Value) -> (TaskId, BTreeMap<String, RunStep>) {
    rig.register(&workflow("w", steps)).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, success(json!(1))).await;
    (task, rig.receive_all().await)
}

// In `grow`, whether the task's row or the children come first shows nowhere, and so no scenario is about it: whoever changes `total_steps`
// has locked the task's first step, and the children that are counted down were locked before both.

/// Two decisions, of which each names a step of its own and the one that depends on both.
async fn two_growths(rig: Rig) {
    let steps = json!([
        {"name": "start"},
        {"name": "left", "type": "decision", "dependencies": ["start"]},
        {"name": "right", "type": "decision", "dependencies": ["start"]},
        {"name": "a", "dependencies": ["left"]},
        {"name": "b", "dependencies": ["right"]},
        {"name": "both", "dependencies": ["left", "right"]},
    ]);
    let (task, runs) = started(&rig, steps).await;
    let gate = Gate::before(&rig, "grow", "  below := array(").await;
    let [left, right] = [("left", "a"), ("right", "b")].map(|(name, of_it)| answer(&rig, &runs[name], create(&[of_it, "both"])));
    assert_eq!(gate.race(&rig, left, right).await, (Answer::Accepted, Answer::Accepted));
    assert_eq!(rig.step(task, "both").await.state, StepState::Enqueued);
    rig.check().await;
}

#[tokio::test]
async fn two_decisions_at_once_make_the_step_that_depends_on_both() {
    let no_first_lock = ("lock_steps", "order by s.no limit 1 for update", "order by s.no limit 1");
    let old_plan = ("refuse_growth", "if seen::jsonb <> (p_growth->'seen')::jsonb then", "if false then");
    finds(two_growths, &[no_first_lock, old_plan]).await;
}

/// A parent of the step that a decision makes ends meanwhile.
async fn growth_and_parent(rig: Rig) {
    let steps = json!([
        {"name": "start"},
        {"name": "decide", "type": "decision", "dependencies": ["start"]},
        {"name": "other", "dependencies": ["start"]},
        {"name": "made", "dependencies": ["decide", "other"]},
    ]);
    let (task, runs) = started(&rig, steps).await;
    let gate = Gate::before(&rig, "complete_one_v1", "  if ready <> 1 then").await;
    let (other, decide) = (answer(&rig, &runs["other"], success(json!(1))), answer(&rig, &runs["decide"], create(&["made"])));
    assert_eq!(gate.race(&rig, other, decide).await, (Answer::Accepted, Answer::Accepted));
    assert_eq!(rig.step(task, "made").await.state, StepState::Enqueued);
    rig.check().await;
}

#[tokio::test]
async fn a_parent_that_ends_while_its_child_is_made_is_counted_once() {
    finds(growth_and_parent, &[("lock_steps", "q.no = k.no for update) s", "q.no = k.no) s")]).await;
}

/// Of a batch with one place, `work_003` runs and `work_002` waits: the third one has its place from an operator.
async fn one_waits_below(rig: &Rig) -> (TaskId, RunStep) {
    let (task, mut runs) = with_workers(rig, json!({"failure_strategy": "fail_fast", "parallelism": 1}), 3).await;
    let calls = ["fail 1", "retry 1", "fail 1", "reopen", "fail 2", "retry 1", "retry 2", "fail 3", "retry 3", "succeed 1"];
    for call in calls {
        let (verb, worker) = call.split_once(' ').unwrap_or((call, ""));
        let name = format!("work_00{worker}");
        match verb {
            "retry" => act(rig, task, &name, OperatorAction::RetryStep { inputs: None }).await,
            "reopen" => {
                let reopened = rig.engine.operate((task, None), OperatorAction::ReopenTask, by("again"), Precondition::default());
                reopened.await.unwrap();
            }
            _ => {
                let outcome = if verb == "fail" { permanent("no") } else { success(json!(1)) };
                assert_eq!(rig.answer(&runs[&name], outcome).await, Answer::Accepted, "{call}");
            }
        }
        rig.check().await;
        runs.extend(rig.receive_all().await);
    }
    let states = [rig.step(task, "work_002").await.state, rig.step(task, "work_003").await.state];
    assert_eq!(states, [StepState::Pending, StepState::Enqueued]);
    (task, runs["work_003"].clone())
}

/// An operator looks at a worker that waits, while the last one that runs ends.
async fn place_and_operator(rig: Rig) {
    let (task, last) = one_waits_below(&rig).await;
    let gate = Gate::before(&rig, "pass_places", "  for batch in\n").await;
    let (engine, waiting) = (rig.engine.clone(), rig.step_id(task, "work_002").await);
    let look = async move {
        let dry = Precondition { seen: None, dry_run: true };
        engine.operate((task, Some(waiting)), OperatorAction::ResolveStep { result: None }, by("to see"), dry).await.unwrap()
    };
    gate.race(&rig, answer(&rig, &last, success(json!(3))), look).await;
    assert_eq!(rig.step(task, "work_002").await.state, StepState::Enqueued);
    rig.check().await;
}

#[tokio::test]
async fn a_place_passes_to_a_worker_that_an_operator_looks_at() {
    finds(
        place_and_operator,
        &[("pass_places", "greatest(batch.free, 0) for update", "greatest(batch.free, 0) for update skip locked")],
    )
    .await;
}

/// Three workers of a batch that fails fast fail, each in a call of its own.
async fn three_failures(rig: Rig) {
    let (task, runs) = with_workers(&rig, json!({"failure_strategy": "fail_fast"}), 3).await;
    let gate = Gate::before(&rig, "fail_batch_v1", "    update tasker.batches b set open = false").await;
    let answers = gate.race_all(&rig, runs.values().map(|run| answer(&rig, run, permanent("bad rows")))).await;
    assert_eq!(answers, [Answer::Accepted, Answer::Stale, Answer::Stale]);
    let states: Vec<StepState> =
        rig.steps(task).await.into_values().map(|step| step.state).filter(|state| *state != StepState::Complete).collect();
    assert_eq!(states, [StepState::Pending, StepState::Error, StepState::Cancelled, StepState::Cancelled]);
    assert_eq!(rig.count("select count(*) from tasker.dlq_entries").await, 1);
    rig.check().await;
}

#[tokio::test]
async fn of_three_workers_that_fail_at_once_the_first_one_is_blamed() {
    finds(three_failures, &[("fail_batch_v1", "for update", "")]).await;
}

fn pause_of_template() -> PauseScope {
    PauseScope { namespace: "default".into(), template: Some("w".into()) }
}

fn pause_of_namespace() -> PauseScope {
    PauseScope { namespace: "default".into(), template: None }
}

fn resume(rig: &Rig, scope: PauseScope) -> impl Calls<()> {
    let engine = rig.engine.clone();
    async move { drop(engine.resume(scope, by("go on"), false).await.unwrap()) }
}

/// The step is dispatched by the next sweep.
async fn goes_on(rig: &Rig, task: TaskId, name: &str) {
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.step(task, name).await.state, StepState::Enqueued, "{name}");
    rig.check().await;
}

/// A step becomes ready and is held, while the pause of its template ends.
async fn ready_and_resume(rig: Rig) {
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    let a = rig.receive().await;
    rig.engine.pause(pause_of_template(), by("stop"), false).await.unwrap();
    let gate = Gate::before(&rig, "advance_v1", "    -- Exactly one of several").await;
    gate.race(&rig, answer(&rig, &a, success(json!(1))), resume(&rig, pause_of_template())).await;
    goes_on(&rig, task, "b").await;
}

/// A step is made and held, while the pause of its template ends.
async fn made_and_resume(rig: Rig) {
    let steps = json!([
        {"name": "start"},
        {"name": "decide", "type": "decision", "dependencies": ["start"]},
        {"name": "made", "dependencies": ["decide"]},
    ]);
    let (task, runs) = started(&rig, steps).await;
    rig.engine.pause(pause_of_template(), by("stop"), false).await.unwrap();
    let gate = Gate::before(&rig, "grow", "  below := array(").await;
    gate.race(&rig, answer(&rig, &runs["decide"], create(&["made"])), resume(&rig, pause_of_template())).await;
    goes_on(&rig, task, "made").await;
}

/// A task is submitted and held, while its pause ends.
async fn submitted_and_resume(rig: Rig) {
    rig.register(&template("w", &[("a", &[])])).await;
    rig.engine.pause(pause_of_template(), by("stop"), false).await.unwrap();
    let gate = Gate::before(&rig, "submit_one_v1", "  insert into tasker.steps").await;
    let (task, ()) = gate.race(&rig, submit(&rig), resume(&rig, pause_of_template())).await;
    goes_on(&rig, task, "a").await;
}

/// The same with the function for several tasks, and the pause of a namespace.
async fn submitted_together_and_resume(rig: Rig) {
    rig.register(&template("w", &[("a", &[])])).await;
    rig.plant(("submit_one_v1", "  idx := 1;", AS_SEVERAL)).await;
    rig.engine.pause(pause_of_namespace(), by("stop"), false).await.unwrap();
    let gate = Gate::before(&rig, "submit_v1", "  with t as (\n").await;
    let (task, ()) = gate.race(&rig, submit(&rig), resume(&rig, pause_of_namespace())).await;
    goes_on(&rig, task, "a").await;
}

/// One task is submitted as several are.
const AS_SEVERAL: &str = "return query select q.* from tasker.submit_v1(array[t_task], array[1], array[t_identity], array[t_context],
    array[t_priority], array[t_tags], array[t_initiator], array[t_source_system], array[t_reason], array[t_correlation],
    array[t_parent_correlation], array[t_traceparent], array[1], array[w_template_id], array[w_namespace], array[w_name], array[w_version],
    array[w_environment], array[w_roots], array[w_total], array_fill(1, array[cardinality(s_no)]), s_no, s_name, s_max_attempts, s_parents,
    s_children, s_further, p_send_ms) q;
  return;";

fn submit(rig: &Rig) -> impl Calls<TaskId> {
    let engine = rig.engine.clone();
    async move { engine.submit(request_of(r#"{"name": "w"}"#), None).await.unwrap().task }
}

/// A task is submitted while the pause of its namespace is being ended: it waits for that, and is not held.
async fn resume_and_submitted(rig: Rig) {
    rig.register(&template("w", &[("a", &[])])).await;
    rig.engine.pause(pause_of_namespace(), by("stop"), false).await.unwrap();
    rig.execute(
        "create function public.stop_here() returns trigger language plpgsql as 'begin perform pg_advisory_xact_lock_shared(1); return new; end';
        create trigger stop_here before insert on tasker.past_pauses for each row execute function public.stop_here()",
    )
    .await;
    let gate = Gate::new(&rig).await;
    let ((), task) = gate.race(&rig, resume(&rig, pause_of_namespace()), submit(&rig)).await;
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued, "without a sweep");
    rig.check().await;
}

/// A retry is due and held, while an operator lets its task go on.
async fn due_and_resume(rig: Rig) {
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.receive().await, failure("not now")).await;
    let operate = |action| {
        let engine = rig.engine.clone();
        async move { engine.operate((task, None), action, by("because"), Precondition::default()).await.unwrap() }
    };
    operate(OperatorAction::PauseTask).await;
    let (engine, wake_up) = (rig.engine.clone(), rig.wake_up(task, "a").await);
    let gate = Gate::before(&rig, "advance_v1", "    -- Exactly one of several").await;
    let evaluate = async move { engine.evaluate(vec![wake_up]).await.unwrap() };
    gate.race(&rig, evaluate, operate(OperatorAction::ResumeTask)).await;
    goes_on(&rig, task, "a").await;
}

#[tokio::test]
async fn what_is_held_while_its_pause_ends_goes_on_at_once() {
    let unlocked = |function| (function, "for share", "");
    finds(ready_and_resume, &[unlocked("is_paused")]).await;
    finds(made_and_resume, &[unlocked("is_paused")]).await;
    finds(submitted_and_resume, &[unlocked("is_paused")]).await;
    finds(submitted_together_and_resume, &[unlocked("is_paused")]).await;
    finds(resume_and_submitted, &[unlocked("is_paused")]).await;
    finds(due_and_resume, &[("advance_v1", "k.task_id = any (held) for update) s", "k.task_id = any (held)) s")]).await;
}
