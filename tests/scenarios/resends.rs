//! A queue refuses, loses and duplicates messages: the sweep sends again what is due.

use std::time::Duration;

use serde_json::json;
use tasker_queue::Outgoing;
use tasker_wire::{Outcome, StepState, TaskId, TaskState};

use crate::{
    remote_queue::RemoteQueue,
    rig::{Rig, failure, success, template},
};

const SEND_LEASE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

async fn rig() -> Rig<RemoteQueue> {
    let rig = Rig::over(RemoteQueue::new()).await;
    rig.stop_clock().await;
    rig.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    rig
}

fn is(message: &Outgoing, name: &str) -> bool {
    matches!(message, Outgoing::RunStep { step, .. } if step.step_name == name)
}

async fn resends(rig: &Rig<RemoteQueue>, task: TaskId, name: &str) -> i64 {
    rig.count(&format!("select resends::int8 from tasker.steps where task_id = '{task}' and name = '{name}'")).await
}

#[tokio::test]
async fn of_a_send_that_failed_in_part_only_the_refused_one_is_sent_again_after_30_seconds() {
    let rig = rig().await;
    rig.engine.queue().refuse(|message| is(message, "b"));
    let task = rig.submit("w", json!({})).await;
    assert_eq!(rig.engine.queue().runs().iter().map(|run| run.step_name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(15 * 60_000));
    assert_eq!(rig.wakes_in_ms(task, "b").await, Some(30_000));

    rig.engine.queue().refuse(|_| false);
    rig.pass(SEND_LEASE - Duration::from_millis(1)).await;
    assert_eq!(rig.engine.sweep().await.unwrap().sent, 0, "a send under way is not raced");
    rig.pass(Duration::from_millis(1)).await;
    assert_eq!(rig.engine.sweep().await.unwrap().sent, 1);
    let [b] = &rig.engine.queue().runs()[..] else { panic!("b is sent") };
    assert_eq!((b.step_name.as_str(), b.lease, b.attempt, b.resend), ("b", 1, 1, 1));
    rig.check().await;
}

#[tokio::test]
async fn an_unanswered_dispatch_is_re_sent_with_growing_pauses_and_opens_a_dlq_entry() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    rig.answer(&rig.engine.queue().runs()[1], success(json!(1))).await;
    let minutes = [15, 30, 60, 120, 240, 360, 360];
    for (n, minutes) in minutes.into_iter().enumerate() {
        assert_eq!(rig.wakes_in_ms(task, "a").await, Some(minutes * 60_000));
        let entries = rig.rows("select reason, no, status, snapshot from tasker.dlq_entries").await;
        assert_eq!(entries.len(), usize::from(n >= 3), "after {n} re-sends");
        rig.pass(MINUTE * minutes as u32 - Duration::from_millis(1)).await;
        assert_eq!(rig.engine.sweep().await.unwrap().sent, 0);
        rig.pass(Duration::from_millis(1)).await;
        assert_eq!(rig.engine.sweep().await.unwrap().sent, 1);
        let [run] = &rig.engine.queue().runs()[..] else { panic!("it is sent once") };
        assert_eq!((run.step_name.as_str(), run.lease, run.attempt, run.resend), ("a", 1, 1, n as i32 + 1));
    }
    let step = rig.step(task, "a").await;
    assert_eq!((step.state, step.attempt, rig.state(task).await), (StepState::Enqueued, 1, TaskState::Running));
    let entry = &rig.rows("select reason, status, step, original_state from tasker.dlq_entries").await;
    let expected = json!({"reason": "worker_unavailable", "status": "pending", "step": "a", "original_state": "running"});
    assert_eq!(entry, &[expected]);
    rig.check().await;
}

#[tokio::test]
async fn re_sends_are_counted_from_zero_after_a_dispatch() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    rig.engine.queue().runs();
    rig.pass(MINUTE * 15).await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(resends(&rig, task, "a").await, 1);
    let runs = rig.engine.queue().runs();
    rig.answer(&runs[0], failure("no")).await;
    rig.engine.sweep().await.unwrap();
    assert_eq!(resends(&rig, task, "a").await, 0);
    let [again] = &rig.engine.queue().runs()[..] else { panic!("a is dispatched again") };
    assert_eq!((again.lease, again.attempt, again.resend), (2, 2, 0));
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(15 * 60_000));
    rig.answer(&runs[1], Outcome::Released {}).await;
    assert_eq!(resends(&rig, task, "b").await, 0);
    assert_eq!(rig.engine.queue().runs()[0].resend, 0);
    rig.check().await;
}

#[tokio::test]
async fn an_answer_that_is_faster_than_the_note_of_its_sending_wins() {
    let rig = rig().await;
    let task = rig.submit("w", json!({})).await;
    let run = &rig.engine.queue().runs()[0];
    rig.answer(run, failure("at once")).await;
    let before = rig.wakes_in_ms(task, "a").await;
    rig.engine.store().mark_sent(&[(run.lease(), 900_000)]).await.unwrap();
    assert_eq!(rig.wakes_in_ms(task, "a").await, before);
    rig.engine.sweep().await.unwrap();
    rig.engine.queue().runs();
    rig.execute("update tasker.steps set wake_at = tasker.clock() + interval '30 s' where name = 'a'").await;
    rig.engine.store().mark_sent(&[(run.lease(), 900_000)]).await.unwrap();
    assert_eq!(rig.wakes_in_ms(task, "a").await, Some(30_000), "nor does it count for the next dispatch");
    rig.check().await;
}

#[tokio::test]
async fn a_queue_that_refuses_everything_for_a_while_loses_nothing() {
    let rig = rig().await;
    rig.engine.queue().refuse(|_| true);
    let task = rig.submit("w", json!({})).await;
    for _ in 0..2 {
        rig.pass(SEND_LEASE).await;
        assert_eq!(rig.engine.sweep().await.unwrap().sent, 2);
    }
    rig.engine.queue().refuse(|_| false);
    rig.pass(SEND_LEASE).await;
    rig.engine.sweep().await.unwrap();
    for run in rig.engine.queue().runs() {
        assert_eq!((run.lease, run.attempt, run.resend), (1, 1, 3));
        rig.answer(&run, success(json!(1))).await;
    }
    rig.answer(&rig.engine.queue().runs()[0], success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}
