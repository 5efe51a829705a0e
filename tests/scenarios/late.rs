//! Completions that come late, twice, or under a lease that is not theirs. The lease is the fence.

use serde_json::json;
use tasker_domain::token;
use tasker_wire::{Answer, CompleteStep, Lease, Outcome, RunStep, StepState, TaskId, TaskState};
use uuid::Uuid;

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, by, failure, permanent, success, template},
};

/// A task of `a` and then `b`; `a` is dispatched.
async fn one_step_on() -> (Rig, TaskId, RunStep) {
    let rig = Rig::still().await;
    rig.register(&template("two", &[("a", &[]), ("b", &["a"])])).await;
    let task = rig.submit("two", json!({})).await;
    let run = rig.receive().await;
    (rig, task, run)
}

#[tokio::test]
async fn the_same_answer_again_is_a_duplicate_and_changes_nothing() {
    let (rig, task, a) = one_step_on().await;
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Accepted);
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Duplicate);
    let b = rig.receive().await;
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Duplicate, "also when its child is under way");
    assert_eq!(rig.engine.queue().waiting(), 0);
    rig.answer(&b, success(json!(2))).await;
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Duplicate, "also when the task is finished");
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", true])]);
    rig.check().await;
}

#[tokio::test]
async fn a_success_is_recorded_in_its_steps_row_only_and_one_of_an_older_version_in_attempts_is_read_as_well() {
    let (rig, task, a) = one_step_on().await;
    rig.answer(&a, success(json!(1))).await;
    assert_eq!(rig.count("select count(*) from tasker.attempts").await, 0);
    let shown = format!("{:?}", rig.engine.store().steps(task, 1 << 20).await.unwrap());
    rig.execute("insert into tasker.attempts select * from tasker.outcomes").await;
    rig.execute("update tasker.steps set digest = null, duration_ms = null, worker = null, metadata = null").await;
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Duplicate);
    assert_eq!(rig.answer(&a, success(json!(2))).await, Answer::Stale);
    assert_eq!(format!("{:?}", rig.engine.store().steps(task, 1 << 20).await.unwrap()), shown);
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", true])]);
    rig.check().await;
}

#[tokio::test]
async fn another_answer_under_the_same_lease_is_stale() {
    let (rig, task, a) = one_step_on().await;
    rig.answer(&a, success(json!("first"))).await;
    assert_eq!(rig.answer(&a, success(json!("second"))).await, Answer::Stale);
    assert_eq!(rig.answer(&a, permanent("no")).await, Answer::Stale);
    assert_eq!(rig.step(task, "a").await.result, Some(json!("first")));
    assert_eq!(rig.receive().await.dependency_results["a"].get(), "\"first\"");
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", true])]);
    rig.check().await;
}

#[tokio::test]
async fn an_answer_to_an_earlier_try_is_recorded_and_changes_nothing() {
    let (rig, task, first) = one_step_on().await;
    rig.answer(&first, failure("lost sight of it")).await;
    assert_eq!(rig.answer(&first, success(json!("after all"))).await, Answer::Stale, "while it waits for its retry");
    rig.engine.sweep().await.unwrap();
    let second = rig.receive().await;
    assert_eq!(rig.answer(&first, success(json!("after all"))).await, Answer::Stale, "while the second attempt runs");
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued);
    rig.answer(&second, success(json!("second"))).await;
    assert_eq!(rig.answer(&first, success(json!("after all"))).await, Answer::Stale, "when it is done");
    assert_eq!(
        rig.answer(&first, failure("lost sight of it")).await,
        Answer::Duplicate,
        "what was applied once stays a duplicate"
    );
    assert_eq!(rig.step(task, "a").await.result, Some(json!("second")));
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "failure", true]), json!([2, 2, "success", true])]);
    rig.check().await;
}

#[tokio::test]
async fn an_answer_to_an_unanswered_earlier_lease_is_recorded_as_not_applied() {
    let (rig, task, first) = one_step_on().await;
    // Its worker counts as lost: the same attempt continues under the next lease.
    rig.answer(&first, Outcome::Started {}).await;
    rig.db.advance_clock(std::time::Duration::from_secs(3600)).await;
    rig.engine.sweep().await.unwrap();
    let second = rig.receive().await;
    assert_eq!((second.lease, second.attempt), (2, 1));
    assert_eq!(rig.answer(&first, success(json!("late"))).await, Answer::Stale);
    assert_eq!(rig.answer(&first, success(json!("late"))).await, Answer::Stale, "and again");
    assert_eq!(rig.answer(&second, success(json!("in time"))).await, Answer::Accepted);
    assert_eq!(rig.attempts(task, "a").await, [json!([1, 1, "success", false]), json!([2, 1, "success", true])]);
    assert_eq!(rig.step(task, "a").await.result, Some(json!("in time")));
    rig.check().await;
}

#[tokio::test]
async fn a_late_answer_is_stale_after_an_operators_retry_too() {
    let (rig, task, first) = one_step_on().await;
    rig.answer(&first, permanent("no")).await;
    assert_eq!(rig.state(task).await, TaskState::Error);
    rig.engine.retry_step(first.step_id, by("try again")).await.unwrap();
    let second = rig.receive().await;
    assert_eq!((second.lease, second.attempt), (2, 1), "the budget is new, the lease is not");
    assert_eq!(rig.answer(&first, success(json!("late"))).await, Answer::Stale);
    assert_eq!(rig.step(task, "a").await.state, StepState::Enqueued);
    assert_eq!(rig.answer(&second, success(json!("second"))).await, Answer::Accepted);
    rig.check().await;
}

#[tokio::test]
async fn an_answer_to_a_retry_that_an_operator_brought_forward_counts_once() {
    let (rig, task, first) = one_step_on().await;
    rig.answer(&first, failure("not now")).await;
    rig.engine.retry_step(first.step_id, by("now")).await.unwrap();
    let second = rig.receive().await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(rig.engine.queue().waiting(), 0, "the retry that was due is the same one");
    assert_eq!(rig.answer(&first, success(json!("late"))).await, Answer::Stale);
    assert_eq!(rig.answer(&second, success(json!(2))).await, Answer::Accepted);
    assert_eq!(rig.step(task, "a").await.attempt, 1);
    rig.check().await;
}

/// A completion under a lease that was never given, signed with the engine's own key.
fn signed(run: &RunStep, template_id: Uuid, lease: i32, attempt: i32, rig: &Rig) -> CompleteStep {
    let plan = token::TemplateRef { template_id, environment: "test".into() };
    let token = token::sign(&plan, Lease { step: run.step_id, number: lease }, attempt, &rig.engine.settings().signing_keys);
    CompleteStep { lease, attempt, token, ..run.complete(success(json!(1)), "from the future", 1) }
}

#[tokio::test]
async fn an_answer_to_a_lease_that_was_not_given_is_refused_and_not_recorded() {
    let (rig, task, a) = one_step_on().await;
    let template_id: Uuid = rig.sql.query_one("select template_id from tasker.templates", &[]).await.unwrap().get(0);
    let b = RunStep { step_id: rig.step_id(task, "b").await, ..a.clone() };
    let none = RunStep { step_id: task.step(b.step_id.no + 1), ..a.clone() };
    for (run, lease) in [(&a, 2), (&a, 0), (&a, -1), (&b, 1), (&none, 1)] {
        assert_eq!(rig.complete(vec![signed(run, template_id, lease, 1, &rig)]).await, [Answer::Refused], "lease {lease}");
    }
    assert_eq!(rig.count("select count(*) from tasker.outcomes").await, 0);
    assert_eq!(rig.complete(vec![signed(&b, Uuid::nil(), 1, 1, &rig)]).await, [Answer::Unknown], "no such template");
    assert_eq!(rig.answer(&a, success(json!(1))).await, Answer::Accepted);
    rig.check().await;
}

#[tokio::test]
async fn a_forged_token_is_answered_forged_and_does_not_affect_the_rest_of_its_batch() {
    let (rig, task, a) = one_step_on().await;
    let good = a.complete(success(json!(1)), "w", 1);
    let (head, tail) = good.token.rsplit_once(".test.").unwrap();
    let elsewhere = format!("{head}.production.{tail}");
    let forged = [
        CompleteStep { token: "x".into(), ..good.clone() },
        CompleteStep { lease: 2, ..good.clone() },
        CompleteStep { attempt: 2, ..good.clone() },
        CompleteStep { step_id: rig.step_id(task, "b").await, ..good.clone() },
        CompleteStep { token: elsewhere, ..good.clone() },
    ];
    let by_another_key = CompleteStep { token: good.token.replacen(".test.", ".new.", 1), ..good.clone() };
    let answers = rig.complete(forged.into_iter().chain([by_another_key, good]).collect()).await;
    assert_eq!(answers, [[Answer::Forged; 5].as_slice(), &[Answer::Unknown, Answer::Accepted]].concat());
    assert_eq!(rig.count("select count(*) from tasker.outcomes").await, 1);
    rig.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_different_answers_at_once_one_wins() {
    let (rig, _, _) = one_step_on().await;
    for n in 0..100 {
        let task = rig.submit("two", json!({"n": n})).await;
        let a = rig.receive().await;
        let (one, other) = tokio::join!(rig.answer(&a, success(json!("one"))), rig.answer(&a, success(json!("other"))));
        let winner = match (one, other) {
            (Answer::Accepted, Answer::Stale) => "\"one\"",
            (Answer::Stale, Answer::Accepted) => "\"other\"",
            both => panic!("{both:?}"),
        };
        let b = rig.receive().await;
        assert_eq!((b.task_id, b.dependency_results["a"].get()), (task, winner));
        assert_eq!(rig.engine.queue().waiting(), 0);
        assert_eq!(rig.attempts(task, "a").await.len(), 1);
    }
    rig.check().await;
}

#[tokio::test]
async fn a_token_of_one_task_answers_for_no_step_of_another() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let (mine, theirs) = (rig.submit("w", json!({})).await, rig.submit("w", json!({})).await);
    let runs = [rig.receive().await, rig.receive().await];
    let run = runs.iter().find(|r| r.task_id == mine).unwrap();
    let mut completion = run.complete(success(json!("forged")), "scripted", 1);
    completion.task_id = theirs;
    rig.complete(vec![completion]).await;
    assert_eq!(rig.step(theirs, "a").await.state, StepState::Enqueued);
    assert_eq!(rig.state(theirs).await, TaskState::Running);
    rig.check().await;
}

#[tokio::test]
async fn a_message_that_comes_twice_counts_once() {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    let task = rig.submit("w", json!({})).await;
    let mut answers = Vec::new();
    for run in rig.engine.queue().runs() {
        for _ in 0..3 {
            answers.push(rig.answer(&run, success(json!(run.step_name))).await);
        }
    }
    use Answer::{Accepted, Duplicate};
    assert_eq!(answers, [Accepted, Duplicate, Duplicate, Accepted, Duplicate, Duplicate]);
    let [join] = &rig.engine.queue().runs()[..] else { panic!("join is sent once") };
    rig.answer(join, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}
