//! A message of SQS, from a receive or from an event of Lambda.

use std::collections::HashMap;

use aws_lambda_events::event::sqs;
use aws_sdk_sqs::types::{Message, MessageAttributeValue};
use tasker_queue::{RawMessage, Receipt};
use tasker_wire::message::is_traceparent;

use super::text;
use crate::traceparent_of;

/// The attribute with the reason of a dead letter.
pub const REASON: &str = "reason";
/// The attribute with the first id of a message that was sent again.
pub const SOURCE_MESSAGE_ID: &str = "source_message_id";

/// Its content is not trusted.
#[derive(Debug, Clone, Default)]
pub struct SqsMessage {
    /// The same in all receives.
    pub id: String,
    /// Identifies this receive.
    pub handle: String,
    /// Approximate; includes those in a dead-letter queue.
    pub receives: u32,
    pub body: String,
    /// When it was first sent, in milliseconds since 1970, by the clock of SQS.
    pub sent_ms: Option<i64>,
    /// The queue whose redrive policy moved it here; `None` if it was sent here.
    pub given_up_by: Option<String>,
    pub group: Option<String>,
    /// The trace, in the form of AWS's header.
    pub trace_header: Option<String>,
    pub attributes: HashMap<String, MessageAttributeValue>,
}

impl SqsMessage {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value()
    }

    /// Adds a text attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), text(value));
        self
    }

    pub fn traceparent(&self) -> Option<String> {
        let own = self.attribute("traceparent").filter(|text| is_traceparent(text)).map(str::to_owned);
        own.or_else(|| traceparent_of(self.trace_header.as_deref()?))
    }

    /// The id from when it was first sent, before any redrive.
    pub fn first_id(&self) -> &str {
        self.attribute(SOURCE_MESSAGE_ID).unwrap_or(&self.id)
    }

    pub fn raw(&self) -> RawMessage<'_> {
        RawMessage { body: &self.body, first_id: self.first_id(), traceparent: self.traceparent() }
    }

    pub fn receipt(&self) -> Receipt {
        Receipt { id: self.id.clone(), handle: self.handle.clone(), receives: self.receives }
    }

    /// The attributes for a redrive: with the first id, which detects duplicates, and without a reason.
    pub fn attributes_to_keep(&self) -> HashMap<String, MessageAttributeValue> {
        let mut attributes = self.clone().with(SOURCE_MESSAGE_ID, self.first_id()).attributes;
        attributes.remove(REASON);
        attributes
    }

    fn new(
        [id, handle, body]: [Option<String>; 3],
        mut system: HashMap<String, String>,
        attributes: HashMap<String, MessageAttributeValue>,
    ) -> Self {
        let number = |name| system.get(name).and_then(|text: &String| text.parse::<i64>().ok());
        Self {
            sent_ms: number("SentTimestamp"),
            receives: number("ApproximateReceiveCount").and_then(|count| count.try_into().ok()).unwrap_or(1),
            given_up_by: system.get("DeadLetterQueueSourceArn").and_then(|arn| arn.rsplit(':').next().map(str::to_owned)),
            group: system.remove("MessageGroupId"),
            trace_header: system.remove("AWSTraceHeader"),
            id: id.unwrap_or_default(),
            handle: handle.unwrap_or_default(),
            body: body.unwrap_or_default(),
            attributes,
        }
    }
}

impl From<Message> for SqsMessage {
    fn from(message: Message) -> Self {
        let system = message.attributes.unwrap_or_default();
        let system = system.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect();
        let parts = [message.message_id, message.receipt_handle, message.body];
        Self::new(parts, system, message.message_attributes.unwrap_or_default())
    }
}

impl From<sqs::SqsMessage> for SqsMessage {
    fn from(message: sqs::SqsMessage) -> Self {
        let attributes = message.message_attributes.into_iter();
        let texts = attributes.filter_map(|(name, value)| Some((name, text(value.string_value.as_deref()?)))).collect();
        Self::new([message.message_id, message.receipt_handle, message.body], message.attributes, texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redriven_dead_letter_keeps_its_first_id_and_loses_its_reason() {
        let letter =
            SqsMessage { id: "b".into(), ..SqsMessage::default() }.with(REASON, "it is no JSON").with("traceparent", "00-…");
        let again = letter.attributes_to_keep();
        assert_eq!(again["source_message_id"].string_value(), Some("b"));
        assert_eq!(again["traceparent"].string_value(), Some("00-…"));
        assert_eq!(again.len(), 2);
        let again = letter.with(SOURCE_MESSAGE_ID, "a").attributes_to_keep();
        assert_eq!(again["source_message_id"].string_value(), Some("a"));
    }
}
