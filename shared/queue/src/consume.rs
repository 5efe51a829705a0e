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
    /// The deadline. Messages that are not done by then are delivered again.
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
    fn remove_note(&self, _note: Self::Note) -> impl Future<Output = Result<(), WorkError>> + Send {
        async { Ok(()) }
    }
}

/// Works on a batch and returns a disposition for each delivery. The readable messages are worked on together, and after a defect each
/// alone. A message at its last receive is recorded first and worked on alone; one of another version is then dead. When the
/// infrastructure prevents the work or the time is over, nothing more is tried.
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
            // Its queue gives it up now anyway, and without a reason.
            Err(other @ Unreadable::OtherVersion(_)) if receipt.receives >= limits.max_receives => {
                worked.settled.push((receipt, Disposition::Dead(other.to_string())));
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
        let (Some(note), Some((receipt, Disposition::Done))) = (note, self.settled.last()) else { return };
        let message_id = receipt.id.clone();
        if let Err(reason) = self.guarded(self.consumer.remove_note(note)).await {
            tracing::warn!(message_id, %reason, "the note of a handled message cannot be removed; it remains until the next sweep");
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
            // The work continues or is cancelled. Both are safe: the next delivery of a completed message is a duplicate.
            Err(_) => Err(WorkError::Later("the deadline passed".into())),
        };
        if let Err(WorkError::Later(reason)) = &result {
            self.prevented = Some(reason.clone());
        }
        result
    }
}
