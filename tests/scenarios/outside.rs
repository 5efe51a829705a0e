//! A queue that does not live in this process: it drops, doubles and refuses, and the sweep sends again what it owes.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tasker_queue::{Outgoing, Queue, SendError, SendResult};
use tasker_wire::{Answer, Evaluate, Outcome, RunStep, StepState, TaskId, TaskState};

use crate::world::{World, by, failure, success, template, workflow};

/// Keeps what it is sent, and refuses what it is told to.
pub struct Outside {
    sent: Mutex<Vec<Outgoing>>,
    refuses: Mutex<Refuses>,
    too_large: Mutex<Refuses>,
    /// Sends that were begun, and what the test holds to keep them from going on.
    begun: AtomicUsize,
    gate: tokio::sync::RwLock<()>,
}

type Refuses = Box<dyn FnMut(&Outgoing) -> bool + Send>;

impl Outside {
    pub fn new() -> Self {
        let none = || Mutex::new(Box::new(|_: &Outgoing| false) as Refuses);
        let (refuses, too_large) = (none(), none());
        Self { sent: Mutex::default(), refuses, too_large, begun: AtomicUsize::new(0), gate: tokio::sync::RwLock::default() }
    }

    /// From now on refuses what `which` says.
    pub fn refuse(&self, which: impl FnMut(&Outgoing) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap() = Box::new(which);
    }

    /// From now on finds too large what `which` says.
    pub fn find_too_large(&self, which: impl FnMut(&Outgoing) -> bool + Send + 'static) {
        *self.too_large.lock().unwrap() = Box::new(which);
    }

    /// The steps that were sent since the last look, in the order of their names.
    pub fn runs(&self) -> Vec<RunStep> {
        let mut runs = self.take(|sent| match sent {
            Outgoing::RunStep { step, .. } => Some(RunStep::clone(step)),
            _ => None,
        });
        runs.sort_by(|a, b| a.step_name.cmp(&b.step_name));
        runs
    }

    /// The wake-ups that were sent since the last look, with their delays.
    pub fn wake_ups(&self) -> Vec<(Evaluate, Duration)> {
        self.take(|sent| match sent {
            Outgoing::Evaluate { wake_up, delay } => Some((*wake_up, *delay)),
            _ => None,
        })
    }

    fn take<T>(&self, which: impl Fn(&Outgoing) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.sent.lock().unwrap().retain(|sent| which(sent).map(|t| taken.push(t)).is_none());
        taken
    }
}

impl Queue for Outside {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        self.begun.fetch_add(1, Relaxed);
        let _open = self.gate.read().await;
        let mut refuses = self.refuses.lock().unwrap();
        let mut too_large = self.too_large.lock().unwrap();
        let mut sent = self.sent.lock().unwrap();
        let send = |message: Outgoing| {
            if too_large(&message) {
                return Err(SendError::TooLarge { bytes: 1_050_000, most: 1_048_576 });
            }
            if refuses(&message) {
                return Err(SendError::Refused("full".into()));
            }
            sent.push(message);
            Ok(())
        };
        messages.into_iter().map(send).collect()
    }
}

const SEND_LEASE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

async fn world() -> World<Outside> {
    let world = World::over(Outside::new()).await;
    world.stop_clock().await;
    world.register(&template("w", &[("a", &[]), ("b", &[]), ("join", &["a", "b"])])).await;
    world
}

fn is(message: &Outgoing, name: &str) -> bool {
    matches!(message, Outgoing::RunStep { step, .. } if step.step_name == name)
}

async fn resends(world: &World<Outside>, task: TaskId, name: &str) -> i64 {
    world.count(&format!("select resends::int8 from tasker.steps where task_id = '{task}' and name = '{name}'")).await
}

#[tokio::test]
async fn of_a_send_that_failed_in_part_only_the_refused_one_is_sent_again_after_30_seconds() {
    let world = world().await;
    world.engine.queue().refuse(|message| is(message, "b"));
    let task = world.submit("w", json!({})).await;
    assert_eq!(world.engine.queue().runs().iter().map(|run| run.step_name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(world.wakes_in_ms(task, "a").await, Some(15 * 60_000));
    assert_eq!(world.wakes_in_ms(task, "b").await, Some(30_000));

    world.engine.queue().refuse(|_| false);
    world.pass(SEND_LEASE - Duration::from_millis(1)).await;
    assert_eq!(world.engine.sweep().await.unwrap().sent, 0, "a send under way is not raced");
    world.pass(Duration::from_millis(1)).await;
    assert_eq!(world.engine.sweep().await.unwrap().sent, 1);
    let [b] = &world.engine.queue().runs()[..] else { panic!("b is sent") };
    assert_eq!((b.step_name.as_str(), b.lease, b.attempt, b.resend), ("b", 1, 1, 1));
    world.check().await;
}

#[tokio::test]
async fn a_step_whose_message_no_queue_can_carry_fails_at_once_and_the_others_go_on() {
    let world = world().await;
    world.engine.queue().find_too_large(|message| is(message, "b"));
    let task = world.submit("w", json!({})).await;
    let [a] = &world.engine.queue().runs()[..] else { panic!("a is sent") };
    let b = world.step(task, "b").await;
    assert_eq!(b.state, StepState::Error);
    let error = b.error.unwrap();
    assert_eq!((&error["error_type"], &error["retryable"]), (&json!("input_too_large"), &json!(false)));
    assert!(error["message"].as_str().unwrap().contains("at most 1048576"), "{error}");
    world.answer(a, success(json!(1))).await;
    assert_eq!(world.state(task).await, TaskState::Error);
    world.check().await;
}

#[tokio::test]
async fn what_was_accepted_and_not_answered_is_sent_again_ever_more_rarely_and_an_operator_is_told() {
    let world = world().await;
    let task = world.submit("w", json!({})).await;
    world.answer(&world.engine.queue().runs()[1], success(json!(1))).await;
    let minutes = [15, 30, 60, 120, 240, 360, 360];
    for (n, minutes) in minutes.into_iter().enumerate() {
        assert_eq!(world.wakes_in_ms(task, "a").await, Some(minutes * 60_000));
        let entries = world.rows("select reason, no, status, snapshot from tasker.dlq_entries").await;
        assert_eq!(entries.len(), usize::from(n >= 3), "after {n} re-sends");
        world.pass(MINUTE * minutes as u32 - Duration::from_millis(1)).await;
        assert_eq!(world.engine.sweep().await.unwrap().sent, 0);
        world.pass(Duration::from_millis(1)).await;
        assert_eq!(world.engine.sweep().await.unwrap().sent, 1);
        let [run] = &world.engine.queue().runs()[..] else { panic!("it is sent once") };
        assert_eq!((run.step_name.as_str(), run.lease, run.attempt, run.resend), ("a", 1, 1, n as i32 + 1));
    }
    let step = world.step(task, "a").await;
    assert_eq!((step.state, step.attempt, world.state(task).await), (StepState::Enqueued, 1, TaskState::Running));
    let entry = &world.rows("select reason, status, snapshot->>'step' as step, original_state from tasker.dlq_entries").await;
    let expected = json!({"reason": "worker_unavailable", "status": "pending", "step": "a", "original_state": "running"});
    assert_eq!(entry, &[expected]);
    world.check().await;
}

#[tokio::test]
async fn re_sends_are_counted_anew_after_a_hand_over() {
    let world = world().await;
    let task = world.submit("w", json!({})).await;
    world.engine.queue().runs();
    world.pass(MINUTE * 15).await;
    world.engine.sweep().await.unwrap();
    assert_eq!(resends(&world, task, "a").await, 1);
    let runs = world.engine.queue().runs();
    world.answer(&runs[0], failure("no")).await;
    world.engine.sweep().await.unwrap();
    assert_eq!(resends(&world, task, "a").await, 0);
    let [again] = &world.engine.queue().runs()[..] else { panic!("a is handed over again") };
    assert_eq!((again.lease, again.attempt, again.resend), (2, 2, 0));
    assert_eq!(world.wakes_in_ms(task, "a").await, Some(15 * 60_000));
    world.answer(&runs[1], Outcome::Released {}).await;
    assert_eq!(resends(&world, task, "b").await, 0);
    assert_eq!(world.engine.queue().runs()[0].resend, 0);
    world.check().await;
}

#[tokio::test]
async fn a_message_that_comes_twice_counts_once() {
    let world = world().await;
    let task = world.submit("w", json!({})).await;
    let mut answers = Vec::new();
    for run in world.engine.queue().runs() {
        for _ in 0..3 {
            answers.push(world.answer(&run, success(json!(run.step_name))).await);
        }
    }
    use Answer::{Accepted, Duplicate};
    assert_eq!(answers, [Accepted, Duplicate, Duplicate, Accepted, Duplicate, Duplicate]);
    let [join] = &world.engine.queue().runs()[..] else { panic!("join is sent once") };
    world.answer(join, success(json!(1))).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    world.check().await;
}

#[tokio::test]
async fn a_send_under_way_is_not_raced_by_the_next_sweep() {
    let world = world().await;
    world.engine.queue().refuse(|_| true);
    world.submit("w", json!({})).await;
    world.engine.queue().refuse(|_| false);
    world.pass(SEND_LEASE).await;
    let queue = world.engine.queue();
    let closed = queue.gate.write().await;
    let begun = queue.begun.load(Relaxed);
    let sweep = || {
        let engine = world.engine.clone();
        tokio::spawn(async move { engine.sweep().await.unwrap().sent })
    };
    let slow = sweep();
    while queue.begun.load(Relaxed) == begun {
        tokio::task::yield_now().await;
    }
    world.pass(SEND_LEASE - Duration::from_millis(1)).await;
    let second = sweep();
    while !second.is_finished() {
        assert_eq!(queue.begun.load(Relaxed), begun + 1, "the second sweep sends nothing");
        tokio::task::yield_now().await;
    }
    drop(closed);
    assert_eq!((slow.await.unwrap(), second.await.unwrap()), (2, 0));
    assert_eq!(queue.runs().len(), 2);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_at_once_send_nothing_twice() {
    let world = world().await;
    let steps = (0..1000).map(|i| json!({"name": format!("s{i}")})).collect();
    world.register(&workflow("roots", steps)).await;
    world.engine.queue().refuse(|_| true);
    world.submit("roots", json!({})).await;
    world.engine.queue().refuse(|_| false);
    world.pass(SEND_LEASE).await;
    let mut sent = 0;
    while sent < 1000 {
        let (one, other) = tokio::join!(world.engine.sweep(), world.engine.sweep());
        sent += one.unwrap().sent + other.unwrap().sent;
    }
    let runs = world.engine.queue().runs();
    assert_eq!(runs.len(), 1000);
    assert!(runs.windows(2).all(|pair| pair[0].step_name != pair[1].step_name));
    assert_eq!(world.engine.sweep().await.unwrap().sent, 0);
    world.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_at_once_hand_a_due_retry_and_a_lost_step_over_once() {
    let world = world().await;
    for n in 0..20 {
        let task = world.submit("w", json!({"n": n})).await;
        let runs = world.engine.queue().runs();
        world.answer(&runs[0], failure("not now")).await;
        world.answer(&runs[1], Outcome::Started {}).await;
        world.pass(MINUTE).await;
        let (one, other) = tokio::join!(world.engine.sweep(), world.engine.sweep());
        one.and(other).unwrap();
        let runs = world.engine.queue().runs();
        let keys: Vec<_> = runs.iter().map(|run| (run.step_name.as_str(), run.lease, run.attempt)).collect();
        assert_eq!(keys, [("a", 2, 2), ("b", 2, 1)]);
        world.engine.cancel_task(task, by("next")).await.unwrap();
    }
    world.check().await;
}

#[tokio::test]
async fn an_answer_that_is_faster_than_the_note_of_its_sending_wins() {
    let world = world().await;
    let task = world.submit("w", json!({})).await;
    let run = &world.engine.queue().runs()[0];
    world.answer(run, failure("at once")).await;
    let before = world.wakes_in_ms(task, "a").await;
    world.engine.store().mark_sent(&[(run.lease(), 900_000)]).await.unwrap();
    assert_eq!(world.wakes_in_ms(task, "a").await, before);
    world.engine.sweep().await.unwrap();
    world.engine.queue().runs();
    world.execute("update tasker.steps set wake_at = tasker.clock() + interval '30 s' where name = 'a'").await;
    world.engine.store().mark_sent(&[(run.lease(), 900_000)]).await.unwrap();
    assert_eq!(world.wakes_in_ms(task, "a").await, Some(30_000), "nor does it count for the next hand-over");
    world.check().await;
}

#[tokio::test]
async fn a_queue_that_refuses_everything_for_a_while_loses_nothing() {
    let world = world().await;
    world.engine.queue().refuse(|_| true);
    let task = world.submit("w", json!({})).await;
    for _ in 0..2 {
        world.pass(SEND_LEASE).await;
        assert_eq!(world.engine.sweep().await.unwrap().sent, 2);
    }
    world.engine.queue().refuse(|_| false);
    world.pass(SEND_LEASE).await;
    world.engine.sweep().await.unwrap();
    for run in world.engine.queue().runs() {
        assert_eq!((run.lease, run.attempt, run.resend), (1, 1, 3));
        world.answer(&run, success(json!(1))).await;
    }
    world.answer(&world.engine.queue().runs()[0], success(json!(1))).await;
    assert_eq!(world.state(task).await, TaskState::Complete);
    world.check().await;
}
