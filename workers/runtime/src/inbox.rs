//! Deduplicates dispatches: several messages with the same lease run once.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tasker_queue::{Delivery, Disposition, Receipt, Source};
use tasker_wire::{RunStep, message::Lease};

/// A source that delivers each lease once at a time. Further messages with the same lease wait for its outcome: they are settled and
/// extended with the first one.
pub struct Inbox<S> {
    source: S,
    /// By the lease's receipt: the receipts of the messages that brought the lease.
    held: Mutex<HashMap<Receipt, Vec<Receipt>>>,
}

/// The receipt of a lease, independent of its message.
pub fn receipt_of(lease: Lease) -> Receipt {
    Receipt { id: lease.step.to_string(), handle: lease.number.to_string(), receives: 1 }
}

impl<S> Inbox<S> {
    pub fn new(source: S) -> Self {
        Self { source, held: Mutex::default() }
    }

    /// `None` if the lease is held already. An unreadable message keeps its own receipt.
    fn first(&self, mut delivery: Delivery<RunStep>) -> Option<Delivery<RunStep>> {
        let Ok(step) = &delivery.message else { return Some(delivery) };
        let receipt = receipt_of(step.lease());
        let mut held = self.held.lock();
        let brought_by = held.entry(receipt.clone()).or_default();
        brought_by.push(std::mem::replace(&mut delivery.receipt, receipt));
        (brought_by.len() == 1).then_some(delivery)
    }

    /// The messages that brought a lease. An unknown receipt is the source's own.
    fn remove(&self, receipt: Receipt) -> Vec<Receipt> {
        self.held.lock().remove(&receipt).unwrap_or_else(|| vec![receipt])
    }
}

impl<S: Source<Message = RunStep>> Source for Inbox<S> {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        loop {
            let deliveries = self.source.receive(max).await;
            let ended = deliveries.is_empty();
            let first: Vec<_> = deliveries.into_iter().filter_map(|delivery| self.first(delivery)).collect();
            if ended || !first.is_empty() {
                return first;
            }
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        let all = settled.into_iter().flat_map(|(receipt, disposition)| {
            self.remove(receipt).into_iter().map(move |receipt| (receipt, disposition.clone()))
        });
        self.source.settle(all.collect()).await;
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        let brought_by = |receipt: &Receipt| {
            // A returned message may be delivered again.
            if time.is_zero() { self.remove(receipt.clone()) } else { self.held.lock().get(receipt).cloned().unwrap_or_default() }
        };
        let all: Vec<Receipt> = deliveries.iter().flat_map(brought_by).collect();
        self.source.extend(&all, time).await;
    }
}

#[cfg(test)]
mod tests {
    use tasker_queue::Unreadable;

    use super::*;

    /// Delivers what it was made with, then nothing more. Records the calls.
    #[derive(Default)]
    struct Queue {
        deliveries: Mutex<Vec<Vec<Delivery<RunStep>>>>,
        settled: Mutex<Vec<(Receipt, Disposition)>>,
        extended: Mutex<Vec<Receipt>>,
    }

    impl Source for Queue {
        type Message = RunStep;

        async fn receive(&self, _max: usize) -> Vec<Delivery<RunStep>> {
            self.deliveries.lock().pop().unwrap_or_default()
        }

        async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
            self.settled.lock().extend(settled);
        }

        async fn extend(&self, deliveries: &[Receipt], _time: Duration) {
            self.extended.lock().extend_from_slice(deliveries);
        }
    }

    fn receipt(id: &str) -> Receipt {
        Receipt { id: id.into(), handle: format!("of {id}"), receives: 1 }
    }

    fn delivery(id: &str, no: i32) -> Delivery<RunStep> {
        let step = crate::testing::step(tasker_wire::TaskId::from_fresh(uuid::Uuid::nil()).step(no), "s");
        Delivery { message: Ok(step), receipt: receipt(id) }
    }

    fn inbox_of(mut deliveries: Vec<Vec<Delivery<RunStep>>>) -> Inbox<Queue> {
        deliveries.reverse();
        Inbox::new(Queue { deliveries: deliveries.into(), ..Queue::default() })
    }

    fn receipts(deliveries: Vec<Delivery<RunStep>>) -> Vec<Receipt> {
        deliveries.into_iter().map(|delivery| delivery.receipt).collect()
    }

    #[tokio::test]
    async fn a_lease_is_delivered_once_and_whatever_brought_it_is_extended_and_settled_together() {
        let inbox = inbox_of(vec![vec![delivery("a", 0), delivery("b", 0)], vec![delivery("c", 0)], vec![delivery("d", 1)]]);
        let first = receipts(inbox.receive(10).await);
        assert_eq!(first.len(), 1);
        assert_eq!(receipts(inbox.receive(10).await).len(), 1, "the next lease that is not held");
        inbox.extend(&first, Duration::from_secs(1)).await;
        assert_eq!(*inbox.source.extended.lock(), ["a", "b", "c"].map(receipt));
        inbox.settle(vec![(first[0].clone(), Disposition::Done)]).await;
        assert_eq!(*inbox.source.settled.lock(), ["a", "b", "c"].map(|id| (receipt(id), Disposition::Done)));
        assert!(inbox.receive(10).await.is_empty(), "there is no more");
    }

    #[tokio::test]
    async fn a_returned_or_settled_lease_is_delivered_again() {
        let inbox = inbox_of(["a", "b", "c"].map(|id| vec![delivery(id, 0)]).into());
        let first = receipts(inbox.receive(10).await);
        inbox.extend(&first, Duration::ZERO).await;
        let second = receipts(inbox.receive(10).await);
        inbox.settle(vec![(second[0].clone(), Disposition::Done)]).await;
        assert_eq!(inbox.receive(10).await.len(), 1);
        assert_eq!((&*inbox.source.extended.lock(), &inbox.source.settled.lock()[0].0), (&vec![receipt("a")], &receipt("b")));
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_passes_with_its_own_receipt() {
        let unreadable = Delivery { message: Err(Unreadable::OtherVersion(2)), receipt: receipt("a") };
        let inbox = inbox_of(vec![vec![unreadable]]);
        assert_eq!(receipts(inbox.receive(10).await), [receipt("a")]);
        inbox.settle(vec![(receipt("a"), Disposition::RetryLater)]).await;
        assert_eq!(*inbox.source.settled.lock(), [(receipt("a"), Disposition::RetryLater)]);
    }
}
