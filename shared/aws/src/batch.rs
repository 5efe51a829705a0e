//! What a function is given of a queue, and what it answers: the messages that must come again, and no others.

use aws_lambda_events::{
    event::sqs::{SqsEvent, SqsMessage},
    sqs::{BatchItemFailure, SqsBatchResponse},
};

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Of the message; stays the same over all receives.
    pub id: String,
    /// Of this receive.
    pub receipt: String,
    /// How often it was received, this one included.
    pub receives: u32,
    /// Its text.
    pub body: String,
    /// The trace that it belongs to.
    pub traceparent: Option<String>,
    /// The id of the message that this one was before an operator sent it again.
    pub source_id: Option<String>,
}

impl Received {
    /// The id that it had when it was first sent, however often operators sent it again.
    pub fn first_id(&self) -> &str {
        self.source_id.as_deref().unwrap_or(&self.id)
    }
}

/// The messages of one invocation.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The queue that they came from.
    pub queue_arn: String,
    /// In the order of the event.
    pub messages: Vec<Received>,
}

impl Batch {
    /// The messages of an event. An event source belongs to one queue.
    pub fn of(event: SqsEvent) -> Self {
        let queue_arn = event.records.first().and_then(|r| r.event_source_arn.clone()).unwrap_or_default();
        Self { queue_arn, messages: event.records.into_iter().map(Received::from).collect() }
    }

    /// The answer: the messages that must come again.
    pub fn answer<'a>(again: impl IntoIterator<Item = &'a Received>) -> SqsBatchResponse {
        let mut answer = SqsBatchResponse::default();
        answer.batch_item_failures = again.into_iter().map(|message| failure(&message.id)).collect();
        answer
    }
}

fn failure(id: &str) -> BatchItemFailure {
    let mut failure = BatchItemFailure::default();
    failure.item_identifier = id.to_owned();
    failure
}

impl From<SqsMessage> for Received {
    fn from(mut message: SqsMessage) -> Self {
        let receives = message.attributes.get("ApproximateReceiveCount").and_then(|n| n.parse().ok()).unwrap_or(1);
        let mut attribute = |name: &str| message.message_attributes.remove(name).and_then(|a| a.string_value);
        Self {
            receives,
            traceparent: attribute("traceparent")
                .filter(|t| tasker_wire::message::is_traceparent(t))
                .or_else(|| crate::traceparent_of(message.attributes.get("AWSTraceHeader")?)),
            source_id: attribute(crate::SOURCE_MESSAGE_ID),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
        }
    }
}
