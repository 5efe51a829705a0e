//! A step and everything after it, repeated by an operator.

use serde_json::json;
use tasker_engine::{Effects, OperatorAction, OperatorError, Precondition};
use tasker_wire::{Answer, Outcome, RunStep, StepState, TaskId, TaskState};

use crate::{
    at_once::finds,
    decisions::create,
    rig::{Rig, by, failure, permanent, raw, success, template, workflow},
};

const DIAMOND: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];

async fn try_redo(rig: &Rig, task: TaskId, name: &str, inputs: Option<serde_json::Value>) -> Result<Effects, OperatorError> {
    let step = rig.step_id(task, name).await;
    let action = OperatorAction::RedoStep { inputs: inputs.and_then(raw) };
    let done = rig.engine.operate((task, Some(step)), action, by("again"), Precondition::default()).await;
    rig.check().await;
    done
}

/// Redoes a step. Returns its effects: name, state before, state after.
async fn redo(rig: &Rig, task: TaskId, name: &str) -> Vec<(String, StepState, StepState)> {
    let effects = try_redo(rig, task, name, None).await.unwrap();
    effects.steps.into_iter().map(|e| (e.name, e.was.unwrap(), e.state.unwrap())).collect()
}

fn change(name: &str, from: StepState, to: StepState) -> (String, StepState, StepState) {
    (name.to_owned(), from, to)
}

/// Answers the next message with its name and lease.
async fn run(rig: &Rig) -> RunStep {
    let run = rig.receive().await;
    let answer = rig.answer(&run, success(json!([run.step_name, run.lease]))).await;
    assert_eq!(answer, Answer::Accepted);
    run
}

fn result(run: &RunStep, parent: &str) -> String {
    run.dependency_results[parent].get().to_owned()
}

#[tokio::test]
async fn a_complete_chain_is_repeated_from_a_step_on_and_what_came_before_is_kept() {
    use StepState::{Complete, Enqueued, Pending};
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let [_, b, c] = [run(&rig).await, run(&rig).await, run(&rig).await];
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(redo(&rig, task, "b").await, [change("b", Complete, Enqueued), change("c", Complete, Pending)]);
    assert_eq!(rig.state(task).await, TaskState::Running);
    assert_eq!(rig.step(task, "c").await.result, None);

    // The answers of before are known still.
    assert_eq!(rig.answer(&b, success(json!(["b", 1]))).await, Answer::Duplicate);
    assert_eq!(rig.answer(&c, success(json!(["c", 1]))).await, Answer::Duplicate);
    assert_eq!(rig.answer(&b, success(json!("another"))).await, Answer::Stale);
    rig.check().await;

    let b = run(&rig).await;
    assert_eq!((b.step_name.as_str(), b.lease, b.attempt, result(&b, "a").as_str()), ("b", 2, 1, r#"["a",1]"#));
    let c = run(&rig).await;
    assert_eq!((c.step_name.as_str(), c.lease, c.attempt, result(&c, "b").as_str()), ("c", 2, 1, r#"["b",2]"#));
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(rig.attempts(task, "b").await, [json!([1, 1, "success", true]), json!([2, 1, "success", true])]);
    let finished = "select count(*) from tasker.audit_log where action = 'finish' and to_state = 'complete'";
    assert_eq!(rig.count(finished).await, 2);
    rig.check().await;
}

#[tokio::test]
async fn live_steps_after_it_lose_their_lease_and_late_answers_are_stale() {
    use StepState::{Complete, Enqueued, Pending};
    let rig = Rig::still().await;
    rig.register(&template("w", DIAMOND)).await;
    let task = rig.submit("w", json!({})).await;
    let a = run(&rig).await;
    let mut runs = rig.receive_all().await;
    let (b, c) = (runs.remove("b").unwrap(), runs.remove("c").unwrap());
    rig.answer(&b, success(json!("b"))).await;
    let effects = redo(&rig, task, "a").await;
    assert_eq!(effects, [change("a", Complete, Enqueued), change("b", Complete, Pending), change("c", Enqueued, Pending)]);
    let leases: Vec<i32> = rig.steps(task).await.values().map(|step| step.lease).collect();
    assert_eq!(leases, [2, 1, 2, 0]);

    assert_eq!(rig.answer(&c, success(json!("c"))).await, Answer::Stale);
    assert_eq!(rig.answer(&b, success(json!("b"))).await, Answer::Duplicate);
    assert_eq!(rig.answer(&a, success(json!(["a", 1]))).await, Answer::Duplicate);
    assert_eq!(rig.engine.queue().waiting(), 1, "only a");
    run(&rig).await;
    let runs = rig.receive_all().await;
    assert_eq!((runs["b"].lease, runs["c"].lease, result(&runs["c"], "a").as_str()), (2, 3, r#"["a",2]"#));
    for run in runs.values() {
        rig.answer(run, success(json!(run.lease))).await;
    }
    let d = run(&rig).await;
    assert_eq!((result(&d, "b").as_str(), result(&d, "c").as_str(), d.lease), ("2", "3", 1));
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn whatever_a_step_after_it_was_doing_it_waits_again() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"]), ("c", &["b"])])).await;
    for n in 0..7 {
        let task = rig.submit("w", json!({"n": n})).await;
        run(&rig).await;
        let b = rig.receive().await;
        match n {
            0 => {}
            1 => drop(rig.answer(&b, Outcome::Started {}).await),
            2 => drop(rig.answer(&b, Outcome::PendingCallback { timeout_seconds: 600 }).await),
            3 => drop(rig.answer(&b, failure("no")).await),
            4 => drop(rig.answer(&b, permanent("no")).await),
            5 => rig.engine.resolve_step(b.step_id, None, by("skip")).await.unwrap(),
            _ => {
                let checkpoint = Outcome::Checkpoint { cursor: raw(json!(1)).unwrap(), items_processed: 1, accumulated: None };
                rig.answer(&b, checkpoint).await;
            }
        }
        redo(&rig, task, "a").await;
        rig.engine.sweep().await.unwrap();
        let answer = rig.answer(&b, success(json!("late"))).await;
        assert_eq!(answer, Answer::Stale, "{n}");
        run(&rig).await;
        let b = run(&rig).await;
        assert_eq!((b.step_name.as_str(), b.attempt, result(&b, "a").as_str()), ("b", 1, r#"["a",2]"#), "{n}");
        assert!(b.checkpoint.is_none() && b.last_failure.is_none(), "{n}");
        run(&rig).await;
        assert_eq!(rig.state(task).await, TaskState::Complete, "{n}");
        assert_eq!(rig.engine.queue().waiting(), 0, "{n}");
        rig.check().await;
    }
}

#[tokio::test]
async fn a_failed_task_goes_on_from_an_earlier_step() {
    let rig = Rig::still().await;
    rig.register(&template("w", DIAMOND)).await;
    let task = rig.submit("w", json!({})).await;
    run(&rig).await;
    let runs = rig.receive_all().await;
    rig.answer(&runs["b"], permanent("no")).await;
    rig.answer(&runs["c"], permanent("no")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    redo(&rig, task, "a").await;
    assert_eq!(rig.state(task).await, TaskState::Running);
    assert_eq!(rig.count("select count(*) from tasker.dlq_entries where status = 'pending'").await, 0);
    for _ in 0..4 {
        run(&rig).await;
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn new_inputs_drop_its_checkpoint_and_without_them_it_goes_on_there() {
    for inputs in [None, Some(json!({"from": 7}))] {
        let rig = Rig::still().await;
        rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
        let task = rig.submit("w", json!({})).await;
        let checkpoint = Outcome::Checkpoint { cursor: raw(json!(40)).unwrap(), items_processed: 1, accumulated: None };
        rig.answer(&rig.receive().await, checkpoint).await;
        rig.answer(&rig.receive().await, permanent("no")).await;
        try_redo(&rig, task, "a", inputs.clone()).await.unwrap();
        let a = rig.receive().await;
        assert_eq!(a.checkpoint.is_some(), inputs.is_none());
        assert_eq!(a.step_inputs.map(|text| serde_json::from_str(text.get()).unwrap()), inputs);
    }
}

#[tokio::test]
async fn a_pause_holds_the_repeated_step_and_forgets_what_it_held_after_it() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    let pause = |action| rig.engine.operate((task, None), action, by("x"), Precondition::default());
    pause(OperatorAction::PauseTask).await.unwrap();
    run(&rig).await;
    assert_eq!(rig.count("select count(*) from tasker.steps where held_at is not null").await, 1);
    redo(&rig, task, "a").await;
    let held = rig.rows("select name from tasker.steps where held_at is not null").await;
    assert_eq!(held, [json!({"name": "a"})]);
    pause(OperatorAction::ResumeTask).await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(run(&rig).await.step_name, name);
    }
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn a_step_that_runs_or_waits_for_its_parents_is_not_repeated_nor_one_of_a_task_that_an_operator_ended() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("w", json!({})).await;
    let refused = async |name: &str| match try_redo(&rig, task, name, None).await {
        Err(OperatorError::Conflict { step, state }) => (step.is_some(), state),
        other => panic!("no conflict: {other:?}"),
    };
    assert_eq!(refused("a").await, (true, "enqueued".into()));
    assert_eq!(refused("b").await, (true, "pending".into()));
    rig.answer(&rig.receive().await, permanent("no")).await;
    rig.engine.operate((task, None), OperatorAction::ResolveTask, by("x"), Precondition::default()).await.unwrap();
    assert_eq!(refused("a").await, (false, "resolved_manually".into()));
    let other = rig.submit("w", json!({"n": 2})).await;
    run(&rig).await;
    rig.engine.cancel_task(other, by("x")).await.unwrap();
    assert!(matches!(
        try_redo(&rig, other, "a", None).await,
        Err(OperatorError::Conflict { step: None, state }) if state == "cancelled"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_and_the_answer_of_a_step_after_it_at_once_leave_every_counter_right() {
    let rig = Rig::still().await;
    rig.register(&template("w", DIAMOND)).await;
    for n in 0..40 {
        let task = rig.submit("w", json!({"n": n})).await;
        let a = run(&rig).await;
        let runs = rig.receive_all().await;
        let redo = rig.engine.operate(
            (task, Some(a.step_id)),
            OperatorAction::RedoStep { inputs: None },
            by("x"),
            Precondition::default(),
        );
        let (redone, b, c) =
            tokio::join!(redo, rig.answer(&runs["b"], success(json!("old"))), rig.answer(&runs["c"], success(json!("old"))));
        redone.unwrap();
        for answer in [b, c] {
            assert!(matches!(answer, Answer::Accepted | Answer::Stale), "{answer:?}");
        }
        rig.check().await;
        // A message of d, if both came first, is of no use.
        let mut ran = Vec::new();
        while rig.state(task).await == TaskState::Running {
            let run = rig.receive().await;
            if rig.answer(&run, success(json!("new"))).await == Answer::Accepted {
                ran.push(run.step_name);
            }
        }
        ran.sort();
        assert_eq!(ran, ["a", "b", "c", "d"]);
        assert_eq!(rig.count("select count(*) from tasker.steps where result::text = '\"old\"'").await, 0);
        rig.check().await;
    }
}

/// What is after a step by the template, whether a row leads there or not.
const BY_TEMPLATE: &str = "json_array_elements_text(p_plan->'reset') u(no)
    union select s.no from tasker.steps s where s.task_id = p_task and s.name in (
      with recursive below(name) as (
        select own.name
        union select x.step->>'name' from below b, tasker.tasks t join tasker.templates d using (template_id),
          json_array_elements(d.definition->'steps') x(step)
        where t.task_id = p_task and (x.step->'dependencies')::jsonb ? b.name)
      select b.name from below b)
    except select u.no::int from json_array_elements_text(p_plan->'deleted') u(no) order by 1);";

/// The template leads from `x` to `join` through `both`, which the decision did not choose.
async fn beside_what_was_not_chosen(rig: Rig) {
    let steps = json!([
        {"name": "start"},
        {"name": "x", "dependencies": ["start"]},
        {"name": "route", "type": "decision", "dependencies": ["start"]},
        {"name": "other", "dependencies": ["start"]},
        {"name": "both", "dependencies": ["x", "route"]},
        {"name": "join", "type": "deferred_convergence", "dependencies": ["both", "other"]},
    ]);
    rig.register(&workflow("w", steps)).await;
    let task = rig.submit("w", json!({})).await;
    run(&rig).await;
    for (name, step) in rig.receive_all().await {
        rig.answer(&step, if name == "route" { create(&[]) } else { success(json!(1)) }).await;
    }
    assert_eq!(run(&rig).await.step_name, "join");
    assert_eq!(rig.state(task).await, TaskState::Complete);
    assert_eq!(redo(&rig, task, "x").await, [change("x", StepState::Complete, StepState::Enqueued)]);
    run(&rig).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}

#[tokio::test]
async fn what_only_a_step_that_does_not_exist_connects_is_not_repeated() {
    let by_template = ("redo_step", "json_array_elements_text(p_plan->'reset') u(no) order by 1);", BY_TEMPLATE);
    finds(beside_what_was_not_chosen, &[by_template]).await;
}
