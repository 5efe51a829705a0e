//! The receiving side of a queue.

use std::{collections::HashMap, marker::PhantomData, time::Duration};

use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, QueueAttributeName},
};
use parking_lot::Mutex;
use tasker_queue::{Content, Delivery, Disposition, Receipt, Source, step_of};
use tasker_wire::StepId;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{BYTES, CallError, ENTRIES, REASON, SOURCE_MESSAGE_ID, SqsMessage, hide, receive, tell, text};
use crate::dead_letter_queue;

/// How long one call waits for messages: the maximum of SQS.
const WAIT_SECONDS: u8 = 20;
/// The pause after a failed call. It doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Characters of a reason. Attributes count towards the size of a message.
const REASON_CHARS: usize = 500;
/// Seconds until the next delivery, per receive so far: the first receives take seconds, a hundred take two and a half hours.
const SECONDS_A_RECEIVE: u32 = 2;
const LONGEST_SECONDS: u32 = 900;

/// A receipt that a later delivery to this source replaced is ignored. One that a delivery to another process replaced may show the message
/// early, because SQS accepts it.
pub struct SqsSource<M> {
    client: Client,
    url: String,
    /// Once cancelled, a receive ends after the current call.
    shutdown: CancellationToken,
    /// The last delivery of each message that is not settled, by the message's id.
    kept: Mutex<HashMap<String, SqsMessage>>,
    content: PhantomData<fn() -> M>,
}

impl<M> SqsSource<M> {
    /// How long one receive waits for messages.
    pub const WAIT: Duration = Duration::from_secs(WAIT_SECONDS as u64);
}

impl<M: Content> SqsSource<M> {
    pub fn new(client: Client, url: String, shutdown: CancellationToken) -> Self {
        Self { client, url, shutdown, kept: Mutex::default(), content: PhantomData }
    }

    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }

    /// The queue's visibility timeout.
    pub async fn visibility(&self) -> Result<Duration, CallError> {
        let name = QueueAttributeName::VisibilityTimeout;
        let request = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone());
        let answer = request.send().await.map_err(CallError::of)?;
        let seconds = answer.attributes().and_then(|all| all.get(&name)).and_then(|text| text.parse().ok());
        let none = || CallError::Refused("the queue has no VisibilityTimeout".into());
        seconds.map(Duration::from_secs).ok_or_else(none)
    }

    /// Makes deliveries of received messages, or of those in an event of Lambda.
    pub fn deliveries(&self, messages: impl IntoIterator<Item: Into<SqsMessage>>) -> Vec<Delivery<M>> {
        messages.into_iter().map(|message| self.deliver(message.into())).collect()
    }

    fn deliver(&self, sqs_message: SqsMessage) -> Delivery<M> {
        let (message, receipt) = (M::read(sqs_message.raw()), sqs_message.receipt());
        self.kept.lock().insert(receipt.id.clone(), sqs_message);
        Delivery { message, receipt }
    }

    fn is_current(&self, receipt: &Receipt) -> bool {
        self.kept.lock().get(&receipt.id).is_some_and(|message| message.handle == receipt.handle)
    }

    /// The step that an unreadable delivery is about, if it names one.
    pub fn step_of(&self, receipt: &Receipt) -> Option<StepId> {
        step_of(&self.kept.lock().get(&receipt.id)?.body)
    }

    /// Copies a message to the dead-letter queue. If true, it may be deleted here.
    pub async fn dead_letter(&self, receipt: &Receipt, reason: &str) -> bool {
        let Some(message) = self.kept.lock().get(&receipt.id).filter(|message| message.handle == receipt.handle).cloned() else {
            return false;
        };
        let attributes = attributes(&message, reason).into_iter().map(|(name, value)| (name.to_owned(), text(&value)));
        let request = self.client.send_message().queue_url(dead_letter_queue(&self.url)).message_body(&message.body);
        let sent = request.set_message_attributes(Some(attributes.collect())).send().await.map_err(CallError::of);
        let message_id = &receipt.id;
        match &sent {
            Ok(_) => {
                tracing::error!(message_id, reason, "a message that can never be handled was sent to the dead-letter queue");
            }
            Err(error) => {
                tracing::error!(message_id, %error, "a dead letter could not be sent; the message will be delivered again")
            }
        }
        sent.is_ok()
    }

    async fn delete(&self, deliveries: &[Receipt]) {
        for chunk in deliveries.chunks(ENTRIES) {
            let entry = |(place, receipt): (usize, &Receipt)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(place.to_string()).receipt_handle(&receipt.handle);
                entry.build().expect("an id and a receipt are given")
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let answer = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
            let failed = answer.map(|a| a.failed.len()).map_err(CallError::of);
            tell(failed, "handled messages could not be deleted; they will be delivered again");
        }
    }
}

impl<M: Content> Source for SqsSource<M> {
    type Message = M;

    async fn receive(&self, max: usize) -> Vec<Delivery<M>> {
        let mut failures: u32 = 0;
        while !self.shutdown.is_cancelled() {
            match receive(&self.client, &self.url, max, WAIT_SECONDS, None).await {
                Ok(messages) => {
                    if failures > 0 {
                        tracing::info!(failures, "messages can be received again");
                    }
                    failures = 0;
                    if !messages.is_empty() {
                        return self.deliveries(messages);
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "messages cannot be received; retrying");
                    }
                    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
                    failures += 1;
                    self.shutdown.run_until_cancelled(sleep(pause)).await;
                }
            }
        }
        Vec::new()
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        let (mut done, mut later) = (Vec::new(), Vec::new());
        for (receipt, disposition) in settled {
            if !self.is_current(&receipt) {
                continue;
            }
            let is_done = match disposition {
                Disposition::Done => true,
                Disposition::RetryLater | Disposition::Postponed => false,
                Disposition::Dead(reason) => self.dead_letter(&receipt, &reason).await,
            };
            self.kept.lock().remove(&receipt.id);
            if is_done { done.push(receipt) } else { later.push(receipt) }
        }
        self.delete(&done).await;
        let later: Vec<_> = later.iter().map(|receipt| (receipt, pause_seconds(receipt.receives).into())).collect();
        hide(&self.client, &self.url, &later).await;
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        let current = deliveries.iter().filter(|receipt| self.is_current(receipt));
        let current: Vec<_> = current.map(|receipt| (receipt, time.as_secs())).collect();
        if time.is_zero() {
            let mut kept = self.kept.lock();
            current.iter().for_each(|(receipt, _)| drop(kept.remove(&receipt.id)));
        }
        hide(&self.client, &self.url, &current).await;
    }
}

/// The attributes of a dead letter, the most important first, as far as they fit beside its body.
fn attributes(message: &SqsMessage, reason: &str) -> Vec<(&'static str, String)> {
    let allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let reason: String = reason.chars().filter(allowed).take(REASON_CHARS).collect();
    let all = [
        (SOURCE_MESSAGE_ID, Some(message.first_id().to_owned())),
        (REASON, Some(reason)),
        ("traceparent", message.traceparent()),
    ];
    let mut room = BYTES.saturating_sub(message.body.len());
    let mut headers = Vec::new();
    for (name, value) in all {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let bytes = name.len() + value.len() + "String".len();
        if bytes <= room {
            room -= bytes;
            headers.push((name, value));
        }
    }
    headers
}

fn pause_seconds(receives: u32) -> u32 {
    receives.max(1).saturating_mul(SECONDS_A_RECEIVE).min(LONGEST_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attributes_of_a_dead_letter_fit_beside_its_body_within_the_limits_of_sqs() {
        let letter = |bytes: usize| SqsMessage { id: "first".into(), body: "x".repeat(bytes), ..SqsMessage::default() };
        let names = |bytes| attributes(&letter(bytes), "no\u{ffff}\n way").iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(attributes(&letter(9), "no\u{ffff}\n way")[1], (REASON, "no way".to_owned()));
        assert_eq!(names(9), [SOURCE_MESSAGE_ID, REASON]);
        assert_eq!(names(BYTES - 40), [SOURCE_MESSAGE_ID]);
        assert_eq!(names(BYTES), Vec::<&str>::new());
    }

    #[test]
    fn a_hundred_receives_outlast_two_hours_and_the_first_ones_come_within_seconds() {
        assert_eq!([1, 2, 3].map(pause_seconds), [2, 4, 6]);
        assert!((1..=100).map(pause_seconds).sum::<u32>() > 2 * 3600);
        assert_eq!(pause_seconds(u32::MAX), LONGEST_SECONDS);
    }
}
