//! The tests that every queue must pass. An implementation provides a [`Fixture`], and its test calls [`conformance`].

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering::SeqCst},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tasker_queue::{
    Consumer, Delivery, Disposition, Limits, Outgoing, Queue, Receipt, SendError, SendResult, Source, Unreadable, WorkError,
    consume,
};
use tasker_wire::{
    CompleteStep, Evaluate, Outcome, RunStep, StepId, TaskId,
    message::{DYNAMIC_VERSION, VERSION},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// The longest time that a test waits.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a test waits for a delivery that must not come, beyond the lifetime of a delivery.
const QUIET: Duration = Duration::from_secs(3);
/// The number of a message that is sent to see that nothing else comes.
const LAST: i32 = 99;
/// The pool of the steps.
pub const POOL: &str = "conformance";

/// An implementation, with empty queues that nothing else uses.
pub trait Fixture: Send + Sync {
    /// The number of receives after which the source of completions gives a message up.
    const MAX_RECEIVES: u32;
    /// The same for steps. `None`: a step is never given up.
    const STEP_RECEIVES: Option<u32>;
    /// The time after which a delivery expires unless it is extended. `None`: never.
    const LIFETIME: Option<Duration>;
    /// Whether the source of steps tells which deliveries are no longer wanted.
    const TELLS_UNWANTED: bool;
    type Queue: Queue;
    type Completions: Source<Message = Arc<CompleteStep>>;
    type WakeUps: Source<Message = Evaluate>;
    type Steps: Source<Message = RunStep>;

    fn queue(&self) -> &Self::Queue;
    fn completions(&self) -> &Self::Completions;
    fn wake_ups(&self) -> &Self::WakeUps;
    /// Of the pool [`POOL`].
    fn steps(&self) -> &Self::Steps;

    /// Puts a malformed text into the queue of completions. False if the queue can hold only messages.
    fn send_text(&self, text: &str) -> impl Future<Output = bool> + Send;

    /// Waits for this number of completions that were given up since the last call. Returns the step of each; `None` if it is malformed.
    fn dead(&self, count: usize) -> impl Future<Output = Vec<Option<StepId>>> + Send;

    /// The same for steps.
    fn dead_steps(&self, count: usize) -> impl Future<Output = Vec<Option<StepId>>> + Send;

    /// A message that is too large for the queue. `None` if it has no limit.
    fn too_large(&self) -> Option<Outgoing>;

    /// Completions with the numbers from 1 that are more than the queue holds. `None` if it has no limit.
    fn more_than_it_holds(&self) -> Option<Vec<Arc<CompleteStep>>>;
}

/// Panics if the implementation fails a test.
pub async fn conformance<F: Fixture>(fixture: &F) {
    duplicates_are_messages_of_their_own(fixture).await;
    a_message_that_is_sent_again_because_its_answer_was_lost_comes_twice(fixture).await;
    what_is_not_settled_comes_again_with_one_more_receive(fixture).await;
    a_delayed_message_does_not_come_early_and_comes(fixture).await;
    an_extended_delivery_is_not_delivered_again(fixture).await;
    a_receipt_that_expired_neither_takes_away_nor_doubles_the_current_delivery(fixture).await;
    a_message_at_its_last_receive_is_given_up_when_it_fails_again(fixture).await;
    what_is_too_large_is_refused_for_ever(fixture).await;
    a_full_queue_makes_its_sender_wait_or_refuses_and_loses_nothing(fixture).await;
    what_cannot_be_read_is_told_apart_and_poison_costs_no_neighbour(fixture).await;
    a_reader_of_the_first_version_leaves_the_second_one_to_who_reads_it(fixture).await;
    a_step_is_delivered_with_its_content_and_again_when_it_is_given_back(fixture).await;
    a_receipt_of_a_step_that_was_given_back_does_no_harm(fixture).await;
    a_dead_step_is_gone_and_told(fixture).await;
    a_step_is_given_up_at_its_last_receive_or_never(fixture).await;
    a_delivery_that_a_later_dispatch_replaces_is_told_as_unwanted_or_never(fixture).await;
}

/// A completion that its number identifies.
pub fn completion(number: i32) -> Arc<CompleteStep> {
    let step_id = step_id(number);
    Arc::new(CompleteStep {
        v: VERSION,
        task_id: step_id.task,
        step_id,
        lease: 1,
        attempt: number,
        token: "token".into(),
        worker: "conformance".into(),
        execution_time_ms: 0,
        correlation_id: None,
        traceparent: None,
        outcome: Outcome::Released {},
    })
}

/// A step with a context of so many bytes.
pub fn step(step_id: StepId, lease: i32, context_bytes: usize) -> RunStep {
    let message = serde_json::json!({"v": VERSION, "task_id": step_id.task.uuid(), "step_id": step_id, "step_name": "a", "lease": lease,
        "attempt": 1, "max_attempts": 1, "token": "", "timeout_seconds": 1, "correlation_id": Uuid::nil(), "namespace": "default",
        "handler": {"callable": "a"}, "context": "x".repeat(context_bytes), "dependency_results": {"b": {"no": step_id.no}}});
    serde_json::from_value(message).expect("it is a step")
}

fn step_id(number: i32) -> StepId {
    TaskId::from_fresh(Uuid::from_u128(7 << 100)).step(16_384 * number)
}

async fn send<F: Fixture>(fixture: &F, numbers: &[i32]) -> Vec<SendResult> {
    fixture.queue().send(numbers.iter().map(|&number| Outgoing::CompleteStep(completion(number))).collect()).await
}

/// Receives until there are `n` deliveries.
async fn receive<S: Source>(source: &S, count: usize) -> Vec<Delivery<S::Message>> {
    let mut received = Vec::new();
    while received.len() < count {
        let some = timeout(PATIENCE, source.receive(count - received.len())).await;
        received.extend(some.unwrap_or_else(|_| panic!("{} of {count} messages came", received.len())));
    }
    received
}

fn numbers(deliveries: &[Delivery<Arc<CompleteStep>>]) -> Vec<i32> {
    let mut numbers: Vec<i32> =
        deliveries.iter().map(|delivery| delivery.message.as_ref().expect("it can be read").attempt).collect();
    numbers.sort_unstable();
    numbers
}

fn all<M>(deliveries: Vec<Delivery<M>>, disposition: &Disposition) -> Vec<(Receipt, Disposition)> {
    deliveries.into_iter().map(|delivery| (delivery.receipt, disposition.clone())).collect()
}

fn receipts<M>(deliveries: &[Delivery<M>]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt.clone()).collect()
}

/// Makes deliveries expire.
async fn expire<F: Fixture, S: Source>(fixture: &F, source: &S, deliveries: &[Receipt]) {
    match F::LIFETIME {
        Some(lifetime) => pass(fixture, lifetime).await,
        None => source.extend(deliveries, Duration::ZERO).await,
    }
}

/// Waits longer than a delivery lives. Panics if anything but a new completion is received then.
async fn no_completion_comes<F: Fixture>(fixture: &F) {
    pass(fixture, F::LIFETIME.unwrap_or_default() + QUIET).await;
    send(fixture, &[LAST]).await;
    only_one_comes(fixture.completions()).await;
}

/// The same for steps.
async fn no_step_comes<F: Fixture>(fixture: &F) {
    static LEASE: AtomicI32 = AtomicI32::new(1);
    pass(fixture, F::LIFETIME.unwrap_or_default() + QUIET).await;
    send_steps(fixture, &[step(step_id(LAST), LEASE.fetch_add(1, SeqCst), 0)]).await;
    only_one_comes(fixture.steps()).await;
}

// A receive is never dropped, because its call may go on and receive what a later test sends.
async fn only_one_comes<S: Source<Message: Debug>>(source: &S) {
    let deliveries = timeout(PATIENCE, source.receive(10)).await.expect("the new message comes");
    assert!(deliveries.len() == 1 && deliveries[0].receipt.receives == 1, "{deliveries:?}");
    done(source, deliveries).await;
}

/// Waits for a delayed message.
async fn pass<F: Fixture>(fixture: &F, time: Duration) {
    let wake_up = Evaluate { v: VERSION, step_id: completion(1).step_id, lease: 1 };
    fixture.queue().send(vec![Outgoing::Evaluate { wake_up, delay: time + Duration::from_secs(1) }]).await;
    done(fixture.wake_ups(), receive(fixture.wake_ups(), 1).await).await;
}

async fn done<S: Source>(source: &S, deliveries: Vec<Delivery<S::Message>>) {
    source.settle(all(deliveries, &Disposition::Done)).await;
}

async fn duplicates_are_messages_of_their_own<F: Fixture>(fixture: &F) {
    assert!(send(fixture, &[1, 1]).await.iter().all(Result::is_ok));
    let deliveries = receive(fixture.completions(), 2).await;
    assert_eq!(numbers(&deliveries), [1, 1]);
    let ids: HashSet<&str> = deliveries.iter().map(|delivery| delivery.receipt.id.as_str()).collect();
    assert_eq!(ids.len(), 2, "each has an id of its own");
    done(fixture.completions(), deliveries).await;
}

/// Sends messages, and loses the first answer.
struct LosesAnswer<'a, Q> {
    queue: &'a Q,
    calls: AtomicI32,
}

impl<Q: Queue> LosesAnswer<'_, Q> {
    async fn send(&self, message: Outgoing) -> SendResult {
        let sent = self.queue.send(vec![message]).await.remove(0);
        if self.calls.fetch_add(1, SeqCst) == 0 { Err(SendError::Refused("the answer was lost".into())) } else { sent }
    }
}

async fn a_message_that_is_sent_again_because_its_answer_was_lost_comes_twice<F: Fixture>(fixture: &F) {
    let queue = LosesAnswer { queue: fixture.queue(), calls: AtomicI32::new(0) };
    while queue.send(Outgoing::CompleteStep(completion(2))).await.is_err() {}
    assert_eq!(queue.calls.into_inner(), 2, "it is accepted at the second time");
    let mut both = receive(fixture.completions(), 2).await;
    assert_eq!(numbers(&both), [2, 2]);
    let other = both.split_off(1);
    assert_ne!(both[0].receipt.id, other[0].receipt.id);
    done(fixture.completions(), both).await;
    expire(fixture, fixture.completions(), &receipts(&other)).await;
    let again = receive(fixture.completions(), 1).await;
    assert_eq!((&again[0].receipt.id, again[0].receipt.receives), (&other[0].receipt.id, 2), "it is to be settled by itself");
    done(fixture.completions(), again).await;
    no_completion_comes(fixture).await;
}

async fn what_is_not_settled_comes_again_with_one_more_receive<F: Fixture>(fixture: &F) {
    send(fixture, &[3]).await;
    let first = receive(fixture.completions(), 1).await.remove(0).receipt;
    assert_eq!(first.receives, 1);
    // A lost settle has no effect: the delivery expires, or is returned.
    expire(fixture, fixture.completions(), std::slice::from_ref(&first)).await;
    let second = receive(fixture.completions(), 1).await.remove(0).receipt;
    assert_eq!((second.receives, &second.id), (2, &first.id));
    fixture.completions().settle(vec![(second, Disposition::RetryLater)]).await;
    let third = receive(fixture.completions(), 1).await;
    assert_eq!((third[0].receipt.receives, &third[0].receipt.id), (3, &first.id));
    done(fixture.completions(), third).await;
}

async fn a_delayed_message_does_not_come_early_and_comes<F: Fixture>(fixture: &F) {
    let (now, delay) = (Instant::now(), Duration::from_secs(2));
    let wake_up = |lease| Evaluate { v: VERSION, step_id: completion(1).step_id, lease };
    let late = Outgoing::Evaluate { wake_up: wake_up(1), delay };
    let soon = Outgoing::Evaluate { wake_up: wake_up(2), delay: Duration::ZERO };
    assert!(fixture.queue().send(vec![late, soon]).await.iter().all(Result::is_ok));
    let mut leases = Vec::new();
    for _ in 0..2 {
        let delivery = receive(fixture.wake_ups(), 1).await;
        leases.push(delivery[0].message.as_ref().expect("it can be read").lease);
        done(fixture.wake_ups(), delivery).await;
    }
    assert_eq!(leases, [2, 1]);
    assert!(now.elapsed() >= delay, "it came after {:?}", now.elapsed());
}

async fn an_extended_delivery_is_not_delivered_again<F: Fixture>(fixture: &F) {
    send(fixture, &[4]).await;
    let kept = receive(fixture.completions(), 1).await;
    fixture.completions().extend(&[kept[0].receipt.clone()], PATIENCE).await;
    pass(fixture, F::LIFETIME.unwrap_or_default()).await;
    send(fixture, &[5]).await;
    let next = receive(fixture.completions(), 1).await;
    assert_eq!(numbers(&next), [5]);
    done(fixture.completions(), next).await;
    // A returned message is delivered immediately.
    fixture.completions().extend(&[kept[0].receipt.clone()], Duration::ZERO).await;
    let again = receive(fixture.completions(), 1).await;
    assert_eq!((numbers(&again), again[0].receipt.receives), (vec![4], 2));
    done(fixture.completions(), again).await;
}

async fn a_receipt_that_expired_neither_takes_away_nor_doubles_the_current_delivery<F: Fixture>(fixture: &F) {
    let completions = fixture.completions();
    send(fixture, &[20, 21, 22, 23]).await;
    let stale = receipts(&receive(completions, 4).await);
    expire(fixture, completions, &stale).await;
    let current = receive(completions, 4).await;
    completions.extend(&receipts(&current), PATIENCE).await;
    let [to_be_done, to_be_later, to_be_dead, to_be_returned] = stale.try_into().expect("four");
    let dispositions = [Disposition::Done, Disposition::RetryLater, Disposition::Dead("it is stale".into())];
    completions.settle([to_be_done, to_be_later, to_be_dead].into_iter().zip(dispositions).collect()).await;
    completions.extend(&[to_be_returned], Duration::ZERO).await;
    no_completion_comes(fixture).await;
    completions.extend(&receipts(&current), Duration::ZERO).await;
    let again = receive(completions, 4).await;
    assert_eq!(numbers(&again), [20, 21, 22, 23], "none was taken away");
    assert!(again.iter().all(|delivery| delivery.receipt.receives == 3), "{again:?}");
    // That none was given up is seen by the next test, which waits for exactly one that is.
    done(completions, again).await;
}

/// Records its calls, and fails on a poison message.
#[derive(Default)]
struct Poisoned(Mutex<Vec<String>>);

const POISON: i32 = 13;

impl Consumer for Poisoned {
    type Message = Arc<CompleteStep>;
    type Note = ();

    async fn work(&self, batch: Arc<[Arc<CompleteStep>]>) -> Result<Vec<Disposition>, WorkError> {
        if batch.iter().any(|completion| completion.attempt == POISON) {
            return Err(WorkError::Defect("poison".into()));
        }
        Ok(vec![Disposition::Done; batch.len()])
    }

    async fn note(&self, message: &Arc<CompleteStep>, receipt: &Receipt) -> Result<Option<()>, WorkError> {
        self.0.lock().push(format!("{} at receive {}", message.attempt, receipt.receives));
        Ok(Some(()))
    }
}

async fn a_message_at_its_last_receive_is_given_up_when_it_fails_again<F: Fixture>(fixture: &F) {
    send(fixture, &[POISON]).await;
    let (work, limits) = (Poisoned::default(), Limits { max_receives: F::MAX_RECEIVES, until: None });
    for receive_no in 1..=F::MAX_RECEIVES {
        let deliveries = receive(fixture.completions(), 1).await;
        assert_eq!(deliveries[0].receipt.receives, receive_no);
        let settled = consume(deliveries, limits, &work).await;
        fixture.completions().settle(settled).await;
    }
    assert_eq!(*work.0.lock(), [format!("{POISON} at receive {}", F::MAX_RECEIVES)]);
    assert_eq!(fixture.dead(1).await, [Some(step_id(POISON))]);
}

async fn what_is_too_large_is_refused_for_ever<F: Fixture>(fixture: &F) {
    let Some(large) = fixture.too_large() else { return };
    let sent = fixture.queue().send(vec![large]).await;
    assert!(matches!(sent[0], Err(SendError::TooLarge { bytes, most }) if bytes > most), "{sent:?}");
}

async fn a_full_queue_makes_its_sender_wait_or_refuses_and_loses_nothing<F: Fixture>(fixture: &F) {
    let Some(messages) = fixture.more_than_it_holds() else { return };
    let count = messages.len();
    let sender = async {
        for message in messages {
            while let Err(refused) = fixture.queue().send(vec![Outgoing::CompleteStep(message.clone())]).await.remove(0) {
                assert!(matches!(refused, SendError::Refused(_)), "{refused}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::pin!(sender);
    assert!(timeout(QUIET, &mut sender).await.is_err(), "it takes more than it holds");
    let receiver = async {
        let mut received = Vec::new();
        while received.len() < count {
            let one = receive(fixture.completions(), 1).await;
            received.extend(numbers(&one));
            done(fixture.completions(), one).await;
        }
        received
    };
    let ((), mut received) = tokio::join!(sender, receiver);
    received.sort_unstable();
    assert_eq!(received, (1..).take(count).collect::<Vec<i32>>());
    no_completion_comes(fixture).await;
}

async fn what_cannot_be_read_is_told_apart_and_poison_costs_no_neighbour<F: Fixture>(fixture: &F) {
    let mixed = fixture.send_text("{").await && fixture.send_text(r#"{"v": 3, "of": "another shape"}"#).await;
    send(fixture, &[8, POISON, 9]).await;
    let deliveries = receive(fixture.completions(), if mixed { 5 } else { 3 }).await;
    let unreadable = deliveries.iter().filter_map(|delivery| delivery.message.as_ref().err());
    let (newer, malformed): (Vec<_>, Vec<_>) = unreadable.partition(|why| matches!(why, Unreadable::OtherVersion(3)));
    assert_eq!((newer.len(), malformed.len()), if mixed { (1, 1) } else { (0, 0) });
    let limits = Limits { max_receives: F::MAX_RECEIVES + 10, until: None };
    let settled = consume(deliveries, limits, &Poisoned::default()).await;
    let count = |wanted: fn(&Disposition) -> bool| settled.iter().filter(|(_, disposition)| wanted(disposition)).count();
    let (dead, later) = if mixed { (1, 2) } else { (0, 1) };
    assert_eq!(count(|disposition| *disposition == Disposition::Done), 2);
    assert_eq!(count(|disposition| matches!(disposition, Disposition::Dead(_))), dead);
    assert_eq!(count(|disposition| *disposition == Disposition::RetryLater), later);
    fixture.completions().settle(settled).await;
    // They are the only ones left, so the test can wait for them to be given up.
    let left = receive(fixture.completions(), later).await;
    fixture.completions().settle(all(left, &Disposition::Dead("it is left".into()))).await;
    let mut told = fixture.dead(dead + later).await;
    told.sort_unstable();
    assert_eq!(told, [vec![None; dead + later - 1], vec![Some(step_id(POISON))]].concat());
}

async fn a_reader_of_the_first_version_leaves_the_second_one_to_who_reads_it<F: Fixture>(fixture: &F) {
    let later = Arc::new(CompleteStep { v: DYNAMIC_VERSION, ..CompleteStep::clone(&completion(12)) });
    let sent = vec![Outgoing::CompleteStep(completion(11)), Outgoing::CompleteStep(later)];
    assert!(fixture.queue().send(sent).await.iter().all(Result::is_ok));
    let as_the_first_version_reads_it = |delivery: Delivery<Arc<CompleteStep>>| {
        let message = delivery.message.and_then(|message| match message.v {
            VERSION => Ok(message),
            v => Err(Unreadable::OtherVersion(v.into())),
        });
        Delivery { message, ..delivery }
    };
    let deliveries = receive(fixture.completions(), 2).await.into_iter().map(as_the_first_version_reads_it).collect();
    let limits = Limits { max_receives: F::MAX_RECEIVES, until: None };
    let settled = consume(deliveries, limits, &Poisoned::default()).await;
    fixture.completions().settle(settled).await;
    let left = receive(fixture.completions(), 1).await;
    assert_eq!((numbers(&left), left[0].receipt.receives), (vec![12], 2));
    assert_eq!(left[0].message.as_ref().map(|message| message.v), Ok(DYNAMIC_VERSION));
    done(fixture.completions(), left).await;
    no_completion_comes(fixture).await;
}

async fn send_steps<F: Fixture>(fixture: &F, steps: &[RunStep]) {
    let outgoing = steps.iter().map(|step| Outgoing::RunStep { pool: POOL.into(), step: Box::new(step.clone()) });
    assert!(fixture.queue().send(outgoing.collect()).await.iter().all(Result::is_ok));
}

/// The documents of steps.
fn documents(mut steps: Vec<RunStep>) -> serde_json::Value {
    steps.sort_unstable_by_key(|step| step.step_id);
    serde_json::to_value(steps).expect("a step serializes")
}

fn messages(deliveries: &[Delivery<RunStep>]) -> Vec<RunStep> {
    deliveries.iter().map(|delivery| delivery.message.clone().expect("it can be read")).collect()
}

async fn a_step_is_delivered_with_its_content_and_again_when_it_is_given_back<F: Fixture>(fixture: &F) {
    let sent = vec![step(step_id(30), 1, 0), step(step_id(31), 2, 0)];
    send_steps(fixture, &sent).await;
    let first = receive(fixture.steps(), 2).await;
    assert_eq!(documents(messages(&first)), documents(sent.clone()));
    assert!(first.iter().all(|delivery| delivery.receipt.receives == 1), "{first:?}");
    fixture.steps().extend(&receipts(&first), PATIENCE).await;
    no_step_comes(fixture).await;
    let (returned, later) = (&first[0].receipt, &first[1].receipt);
    fixture.steps().extend(std::slice::from_ref(returned), Duration::ZERO).await;
    fixture.steps().settle(vec![(later.clone(), Disposition::RetryLater)]).await;
    let second = receive(fixture.steps(), 2).await;
    assert_eq!(documents(messages(&second)), documents(sent));
    assert!(second.iter().all(|delivery| delivery.receipt.receives == 2), "{second:?}");
    let ids =
        |deliveries: &[Delivery<RunStep>]| deliveries.iter().map(|delivery| delivery.receipt.id.clone()).collect::<HashSet<_>>();
    assert_eq!(ids(&first), ids(&second));
    done(fixture.steps(), second).await;
    no_step_comes(fixture).await;
}

async fn a_receipt_of_a_step_that_was_given_back_does_no_harm<F: Fixture>(fixture: &F) {
    let (steps, sent) = (fixture.steps(), vec![step(step_id(32), 1, 0)]);
    send_steps(fixture, &sent).await;
    let stale = receive(steps, 1).await.remove(0).receipt;
    steps.extend(std::slice::from_ref(&stale), Duration::ZERO).await;
    let current = receipts(&receive(steps, 1).await);
    steps.extend(&current, PATIENCE).await;
    for disposition in [Disposition::Done, Disposition::RetryLater, Disposition::Dead("it is stale".into())] {
        steps.settle(vec![(stale.clone(), disposition)]).await;
    }
    steps.extend(&[stale], Duration::ZERO).await;
    no_step_comes(fixture).await;
    steps.extend(&current, Duration::ZERO).await;
    let again = receive(steps, 1).await;
    assert_eq!((documents(messages(&again)), again[0].receipt.receives), (documents(sent), 3));
    // That the step was not given up is seen by the next test, which waits for exactly one that is.
    done(steps, again).await;
}

async fn a_dead_step_is_gone_and_told<F: Fixture>(fixture: &F) {
    send_steps(fixture, &[step(step_id(33), 1, 0)]).await;
    let dead = all(receive(fixture.steps(), 1).await, &Disposition::Dead("it must not run".into()));
    fixture.steps().settle(dead).await;
    assert_eq!(fixture.dead_steps(1).await, [Some(step_id(33))]);
    no_step_comes(fixture).await;
}

async fn a_step_is_given_up_at_its_last_receive_or_never<F: Fixture>(fixture: &F) {
    send_steps(fixture, &[step(step_id(34), 1, 0)]).await;
    for receive_no in 1..=F::STEP_RECEIVES.unwrap_or(20) {
        let deliveries = receive(fixture.steps(), 1).await;
        assert_eq!(deliveries[0].receipt.receives, receive_no);
        fixture.steps().settle(all(deliveries, &Disposition::RetryLater)).await;
    }
    match F::STEP_RECEIVES {
        Some(_) => assert_eq!(fixture.dead_steps(1).await, [Some(step_id(34))]),
        None => done(fixture.steps(), receive(fixture.steps(), 1).await).await,
    }
}

async fn a_delivery_that_a_later_dispatch_replaces_is_told_as_unwanted_or_never<F: Fixture>(fixture: &F) {
    send_steps(fixture, &[step(step_id(35), 1, 0)]).await;
    let earlier = receive(fixture.steps(), 1).await;
    send_steps(fixture, &[step(step_id(35), 2, 0)]).await;
    if F::TELLS_UNWANTED {
        let told = timeout(PATIENCE, fixture.steps().unwanted()).await.expect("it is told");
        // It may also name deliveries of earlier tests, which are settled.
        assert!(told.contains(&earlier[0].receipt), "{told:?}");
    }
    assert!(timeout(QUIET, fixture.steps().unwanted()).await.is_err(), "it is told once, or never");
    let later = receive(fixture.steps(), 1).await;
    assert_eq!(messages(&later)[0].lease, 2);
    done(fixture.steps(), earlier).await;
    done(fixture.steps(), later).await;
}
