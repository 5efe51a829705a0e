//! The tests that every queue must pass. An implementation provides a [`Fixture`], and its test calls [`conformance`].

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tasker_queue::{
    Consumer, Delivery, Disposition, Limits, Outgoing, Queue, Receipt, SendError, SendResult, Source, Unreadable, WorkError,
    consume,
};
use tasker_wire::{CompleteStep, Evaluate, Outcome, TaskId, message::VERSION};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// The longest time that a test waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// An implementation, with empty queues that nothing else uses.
pub trait Fixture: Send + Sync {
    /// The number of receives after which the source gives a message up.
    const MAX_RECEIVES: u32;
    /// The time after which a delivery expires unless it is extended. `None`: never.
    const LIFETIME: Option<Duration>;
    type Queue: Queue;
    type Completions: Source<Message = Arc<CompleteStep>>;
    type WakeUps: Source<Message = Evaluate>;

    fn queue(&self) -> &Self::Queue;
    fn completions(&self) -> &Self::Completions;
    fn wake_ups(&self) -> &Self::WakeUps;

    /// Puts a malformed text into the queue of completions. False if the queue can hold only messages.
    fn send_text(&self, text: &str) -> impl Future<Output = bool> + Send;

    /// Waits for this number of completions that were given up. Returns the text of each, or at least its attempt.
    fn dead(&self, count: usize) -> impl Future<Output = Vec<String>> + Send;

    /// A message that is too large for the queue. `None` if it has no limit.
    fn too_large(&self) -> Option<Outgoing>;
}

/// Panics if the implementation fails a test.
pub async fn conformance<F: Fixture>(fixture: &F) {
    duplicates_are_messages_of_their_own(fixture).await;
    a_message_whose_answer_was_lost_comes_all_the_same(fixture).await;
    what_is_not_settled_comes_again_with_one_more_receive(fixture).await;
    a_delayed_message_does_not_come_early_and_comes(fixture).await;
    an_extended_delivery_is_not_delivered_again(fixture).await;
    a_receipt_that_expired_does_no_harm(fixture).await;
    a_message_at_its_last_receive_is_given_up_when_it_fails_again(fixture).await;
    what_is_too_large_is_refused_for_ever(fixture).await;
    what_cannot_be_read_is_told_apart_and_poison_costs_no_neighbour(fixture).await;
}

/// A completion that its number identifies.
pub fn completion(number: i32) -> Arc<CompleteStep> {
    let task_id = TaskId::from_fresh(Uuid::from_u128(7 << 100));
    Arc::new(CompleteStep {
        v: VERSION,
        task_id,
        step_id: task_id.step(16_384 * number),
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

/// Makes the delivery expire.
async fn expire<F: Fixture>(fixture: &F, receipt: &Receipt) {
    match F::LIFETIME {
        Some(lifetime) => pass(fixture, lifetime).await,
        None => fixture.completions().extend(std::slice::from_ref(receipt), Duration::ZERO).await,
    }
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

/// Sends messages, and reports that it did not.
struct LostAnswers<'a, Q>(&'a Q);

impl<Q: Queue> LostAnswers<'_, Q> {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let results = self.0.send(messages).await;
        results.into_iter().map(|_| Err(SendError::Refused("the answer was lost".into()))).collect()
    }
}

async fn a_message_whose_answer_was_lost_comes_all_the_same<F: Fixture>(fixture: &F) {
    let again = || vec![Outgoing::CompleteStep(completion(2))];
    let lost = LostAnswers(fixture.queue()).send(again()).await;
    // The sender of a rejected message sends it again.
    let sent = fixture.queue().send(again()).await;
    assert!(lost[0].is_err() && sent[0].is_ok());
    let deliveries = receive(fixture.completions(), 2).await;
    assert_eq!(numbers(&deliveries), [2, 2]);
    done(fixture.completions(), deliveries).await;
}

async fn what_is_not_settled_comes_again_with_one_more_receive<F: Fixture>(fixture: &F) {
    send(fixture, &[3]).await;
    let first = receive(fixture.completions(), 1).await.remove(0).receipt;
    assert_eq!(first.receives, 1);
    // A lost settle has no effect: the delivery expires, or is returned.
    expire(fixture, &first).await;
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

async fn a_receipt_that_expired_does_no_harm<F: Fixture>(fixture: &F) {
    send(fixture, &[6]).await;
    let stale = receive(fixture.completions(), 1).await.remove(0).receipt;
    expire(fixture, &stale).await;
    let current = receive(fixture.completions(), 1).await;
    assert_eq!(current[0].receipt.id, stale.id);
    // The queue may accept or ignore it. The current delivery is settled in any case.
    fixture.completions().settle(vec![(stale, Disposition::Done)]).await;
    done(fixture.completions(), current).await;
    send(fixture, &[7]).await;
    let next = receive(fixture.completions(), 1).await;
    assert_eq!(numbers(&next), [7]);
    done(fixture.completions(), next).await;
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
    let dead = fixture.dead(1).await;
    assert!(dead[0].contains(&POISON.to_string()), "{dead:?}");
}

async fn what_is_too_large_is_refused_for_ever<F: Fixture>(fixture: &F) {
    let Some(large) = fixture.too_large() else { return };
    let sent = fixture.queue().send(vec![large]).await;
    assert!(matches!(sent[0], Err(SendError::TooLarge { bytes, most }) if bytes > most), "{sent:?}");
}

async fn what_cannot_be_read_is_told_apart_and_poison_costs_no_neighbour<F: Fixture>(fixture: &F) {
    let mixed = fixture.send_text("{").await && fixture.send_text(r#"{"v": 2, "of": "another shape"}"#).await;
    send(fixture, &[8, POISON, 9]).await;
    let deliveries = receive(fixture.completions(), if mixed { 5 } else { 3 }).await;
    let unreadable = deliveries.iter().filter_map(|delivery| delivery.message.as_ref().err());
    let (newer, malformed): (Vec<_>, Vec<_>) = unreadable.partition(|why| matches!(why, Unreadable::OtherVersion(2)));
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
    fixture.dead(1 + dead + later).await;
}
