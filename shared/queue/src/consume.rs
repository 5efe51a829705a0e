//! Works on a batch of deliveries, such that a fault of one message does not affect the others.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tasker_process::panic_text;
use tokio::time::{Instant, timeout_at};

use crate::{Delivery, Disposition, Receipt, Unreadable};

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After this number of receives the source gives a message up.
    pub max_receives: u32,
    /// The deadline. What is not done then is delivered again.
    pub until: Option<Instant>,
}

/// Why work on messages failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The infrastructure prevents this and any other work now.
    #[error("{0}")]
    Later(String),
    /// A message or this program has a fault.
    #[error("{0}")]
    Defect(String),
}

pub trait Consumer: Send + Sync {
    type Message: Clone + Send + Sync + 'static;
    /// Identifies the record of a message at its last receive.
    type Note: Send;

    /// Works on messages together. Returns one disposition per message, in their order. It may be cancelled at any point.
    fn work(&self, messages: Arc<[Self::Message]>) -> impl Future<Output = Result<Vec<Disposition>, WorkError>> + Send;

    /// Records that a message is at its last receive, before work on it.
    fn note(
        &self,
        _message: &Self::Message,
        _receipt: &Receipt,
    ) -> impl Future<Output = Result<Option<Self::Note>, WorkError>> + Send {
        async { Ok(None) }
    }

    /// Removes the record, because the message succeeded.
    fn strike_out(&self, _note: Self::Note) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Works on a batch and returns a disposition for each delivery. The readable messages are worked on together, and after a defect each
/// alone. A message at its last receive is recorded first and worked on alone. When the infrastructure prevents the work or the time is
/// over, nothing more is tried.
pub async fn consume<C: Consumer>(batch: Vec<Delivery<C::Message>>, limits: Limits, consumer: &C) -> Vec<(Receipt, Disposition)> {
    let mut worked = Batch { consumer, limits, settled: Vec::with_capacity(batch.len()), prevented: None };
    let (mut receipts, mut messages, mut last) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()), Vec::new());
    for Delivery { message, receipt } in batch {
        match message {
            Ok(message) if receipt.receives >= limits.max_receives => last.push((receipt, message)),
            Ok(message) => {
                receipts.push(receipt);
                messages.push(message);
            }
            Err(unreadable) => worked.settled.push(refuse(receipt, unreadable)),
        }
    }
    worked.together(receipts, messages.into()).await;
    for (receipt, message) in last {
        worked.last(receipt, message).await;
    }
    let later = worked.settled.iter().filter(|(_, disposition)| *disposition == Disposition::RetryLater).count();
    if later > 0 {
        tracing::warn!(messages = later, reason = worked.prevented, "messages are delivered again later");
    }
    worked.settled
}

/// The disposition of a message that cannot be read.
pub fn refuse(receipt: Receipt, unreadable: Unreadable) -> (Receipt, Disposition) {
    match unreadable {
        Unreadable::Malformed(reason) => (receipt, Disposition::Dead(reason)),
        Unreadable::OtherVersion(_) => {
            tracing::warn!(message_id = receipt.id, reason = %unreadable, "a message has another version; it is delivered again");
            (receipt, Disposition::RetryLater)
        }
    }
}

struct Batch<'a, C> {
    consumer: &'a C,
    limits: Limits,
    settled: Vec<(Receipt, Disposition)>,
    /// Why nothing more is tried.
    prevented: Option<String>,
}

impl<C: Consumer> Batch<'_, C> {
    async fn together(&mut self, receipts: Vec<Receipt>, messages: Arc<[C::Message]>) {
        if receipts.is_empty() {
            return;
        }
        let work = async {
            let dispositions = self.consumer.work(messages.clone()).await?;
            let (answered, given) = (dispositions.len(), messages.len());
            let defect = || WorkError::Defect(format!("{answered} dispositions for {given} messages"));
            (answered == given).then_some(dispositions).ok_or_else(defect)
        };
        match self.guarded(work).await {
            Ok(dispositions) => self.settled.extend(receipts.into_iter().zip(dispositions)),
            Err(WorkError::Defect(reason)) if receipts.len() == 1 => {
                for receipt in receipts {
                    let Receipt { id: message_id, receives, .. } = &receipt;
                    tracing::error!(message_id, receives, reason, "a message could not be handled");
                    self.settled.push((receipt, Disposition::RetryLater));
                }
            }
            Err(WorkError::Defect(_)) => {
                for (receipt, message) in receipts.into_iter().zip(messages.iter()) {
                    Box::pin(self.together(vec![receipt], Arc::new([message.clone()]))).await;
                }
            }
            Err(WorkError::Later(_)) => {
                self.settled.extend(receipts.into_iter().map(|receipt| (receipt, Disposition::RetryLater)));
            }
        }
    }

    async fn last(&mut self, receipt: Receipt, message: C::Message) {
        let note = match self.guarded(self.consumer.note(&message, &receipt)).await {
            Ok(note) => note,
            Err(reason) => {
                tracing::error!(message_id = receipt.id, %reason, "a message at its last receive cannot be noted");
                None
            }
        };
        self.together(vec![receipt], Arc::new([message])).await;
        let succeeded = matches!(self.settled.last(), Some((_, Disposition::Done)));
        if let Some(note) = note.filter(|_| succeeded) {
            self.consumer.strike_out(note).await;
        }
    }

    /// Runs a future until the deadline, unless work is already prevented. A panic is a defect.
    async fn guarded<T>(&mut self, work: impl Future<Output = Result<T, WorkError>>) -> Result<T, WorkError> {
        if let Some(reason) = &self.prevented {
            return Err(WorkError::Later(reason.clone()));
        }
        let work = AssertUnwindSafe(work).catch_unwind();
        let ended = match self.limits.until {
            Some(until) => timeout_at(until, work).await,
            None => Ok(work.await),
        };
        let result = match ended {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(WorkError::Defect(format!("it panicked: {}", panic_text(&*panic)))),
            // The work continues or is cancelled. Both are safe: what was done is a duplicate next time.
            Err(_) => Err(WorkError::Later("the time is over".into())),
        };
        if let Err(WorkError::Later(reason)) = &result {
            self.prevented = Some(reason.clone());
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;
    use Disposition::{Dead, Done, RetryLater};

    /// Behaves as its messages say, and records its calls.
    #[derive(Default)]
    struct Scripted(Mutex<Vec<String>>);

    impl Consumer for Scripted {
        type Message = &'static str;
        type Note = String;

        async fn work(&self, messages: Arc<[&'static str]>) -> Result<Vec<Disposition>, WorkError> {
            self.0.lock().push(messages.join(" "));
            let mut dispositions = Vec::new();
            for message in messages.iter() {
                match *message {
                    "panics" => panic!("as planned"),
                    "defect" => return Err(WorkError::Defect("a defect".into())),
                    "away" => return Err(WorkError::Later("the database is away".into())),
                    "hangs" => std::future::pending().await,
                    "forged" => dispositions.push(Dead("forged".into())),
                    "short" => {}
                    _ => dispositions.push(Done),
                }
            }
            Ok(dispositions)
        }

        async fn note(&self, message: &&'static str, _receipt: &Receipt) -> Result<Option<String>, WorkError> {
            self.0.lock().push(format!("note {message}"));
            Ok(Some((*message).to_owned()))
        }

        async fn strike_out(&self, note: String) {
            self.0.lock().push(format!("strike out {note}"));
        }
    }

    fn delivery(message: &'static str, receives: u32) -> Delivery<&'static str> {
        let unreadable = match message {
            "malformed" => Some(Unreadable::Malformed("no JSON".into())),
            "newer" => Some(Unreadable::OtherVersion(2)),
            _ => None,
        };
        let receipt = Receipt { id: message.into(), handle: String::new(), receives };
        Delivery { message: unreadable.map_or(Ok(message), Err), receipt }
    }

    /// Consumes messages at their first receive, or at their fifth and last if they say so. Returns the dispositions and the calls.
    async fn consumed(messages: &[&'static str]) -> (Vec<(String, Disposition)>, Vec<String>) {
        let work = Scripted::default();
        let batch = messages.iter().map(|message| match message.strip_prefix("last ") {
            Some(message) => delivery(message, 5),
            None => delivery(message, 1),
        });
        let limits = Limits { max_receives: 5, until: Some(Instant::now() + Duration::from_secs(60)) };
        let settled = consume(batch.collect(), limits, &work).await;
        (settled.into_iter().map(|(receipt, disposition)| (receipt.id, disposition)).collect(), work.0.into_inner())
    }

    fn of(settled: &[(String, Disposition)], id: &str) -> Disposition {
        settled.iter().find(|(settled, _)| settled == id).unwrap_or_else(|| panic!("{id} is not settled")).1.clone()
    }

    #[tokio::test]
    async fn what_can_be_read_is_worked_on_together_and_what_cannot_is_dead_or_left_to_another_version() {
        let (settled, done) = consumed(&["a", "malformed", "forged", "newer"]).await;
        assert_eq!(done, ["a forged"]);
        assert_eq!(["a", "forged"].map(|id| of(&settled, id)), [Done, Dead("forged".into())]);
        assert_eq!(["malformed", "newer"].map(|id| of(&settled, id)), [Dead("no JSON".into()), RetryLater]);
    }

    #[tokio::test]
    async fn a_panic_and_any_other_defect_cost_their_own_message_and_not_its_neighbours() {
        for broken in ["panics", "defect", "short"] {
            let (settled, done) = consumed(&["a", broken, "b"]).await;
            assert_eq!(["a", broken, "b"].map(|id| of(&settled, id)), [Done, RetryLater, Done], "{broken}");
            assert_eq!(done[1..], ["a", broken, "b"], "each alone");
        }
    }

    #[tokio::test]
    async fn once_the_infrastructure_prevents_the_work_nothing_more_is_tried() {
        let (settled, done) = consumed(&["a", "away", "last b", "malformed"]).await;
        assert_eq!(done, ["a away"]);
        assert_eq!(["a", "away", "b"].map(|id| of(&settled, id)), [RetryLater, RetryLater, RetryLater]);
        assert_eq!(of(&settled, "malformed"), Dead("no JSON".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_when_the_time_is_over_comes_again() {
        let (settled, done) = consumed(&["a", "hangs", "last b"]).await;
        assert_eq!(["a", "hangs", "b"].map(|id| of(&settled, id)), [RetryLater, RetryLater, RetryLater]);
        assert_eq!(done, ["a hangs"]);
    }

    #[tokio::test]
    async fn a_message_at_its_last_receive_is_noted_and_worked_on_alone_and_struck_out_when_it_succeeds() {
        let (settled, done) = consumed(&["last a", "b", "last panics", "c"]).await;
        assert_eq!(done, ["b c", "note a", "a", "strike out a", "note panics", "panics"]);
        assert_eq!(["a", "b", "c", "panics"].map(|id| of(&settled, id)), [Done, Done, Done, RetryLater]);
    }
}
