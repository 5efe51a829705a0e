//! A message in a dead-letter queue, as it was received there.

use std::collections::HashMap;

use aws_sdk_sqs::types::{Message, MessageAttributeValue, MessageSystemAttributeName as Name};

use crate::{REASON, SOURCE_MESSAGE_ID};

/// A dead letter. Nothing in it is to be believed: it may be dead because of what it holds.
#[derive(Debug, Clone, Default)]
pub struct DeadLetter {
    /// Stays the same over all receives.
    pub id: String,
    /// Of this receive.
    pub receipt: String,
    /// Its text.
    pub body: String,
    /// When it was first sent, in milliseconds since 1970, by the clock of SQS.
    pub sent_ms: Option<i64>,
    /// Receives so far, about, those in the dead-letter queue among them.
    pub receives: u32,
    /// The name of the queue that gave it up after its last receive; none when somebody put it here.
    pub given_up_by: Option<String>,
    /// The group that it was sent under.
    pub group: Option<String>,
    /// The trace that it belongs to, as AWS calls it.
    pub trace_header: Option<String>,
    /// What was sent along with it.
    pub attributes: HashMap<String, MessageAttributeValue>,
}

impl DeadLetter {
    /// The text of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value()
    }

    /// Gives it a text as an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
        self.attributes.insert(name.to_owned(), value.expect("a type is given"));
        self
    }

    /// What it is sent again with: the id that it began with, by which whoever takes it in knows a duplicate, and no reason.
    pub fn attributes_for_a_new_life(&self) -> HashMap<String, MessageAttributeValue> {
        let origin = self.attribute(SOURCE_MESSAGE_ID).unwrap_or(&self.id).to_owned();
        let mut attributes = self.clone().with(SOURCE_MESSAGE_ID, &origin).attributes;
        attributes.remove(REASON);
        attributes
    }
}

impl From<Message> for DeadLetter {
    fn from(message: Message) -> Self {
        let mut system = message.attributes.unwrap_or_default();
        let number = |name: &Name| system.get(name).and_then(|text| text.parse::<i64>().ok());
        Self {
            sent_ms: number(&Name::SentTimestamp),
            receives: number(&Name::ApproximateReceiveCount).and_then(|count| count.try_into().ok()).unwrap_or(1),
            given_up_by: system.remove(&Name::DeadLetterQueueSourceArn).and_then(|arn| arn.rsplit(':').next().map(str::to_owned)),
            group: system.remove(&Name::MessageGroupId),
            trace_header: system.remove(&Name::AwsTraceHeader),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
            attributes: message.message_attributes.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_that_is_sent_again_keeps_the_first_id_that_it_had_and_loses_its_reason() {
        let letter =
            DeadLetter { id: "b".into(), ..DeadLetter::default() }.with(REASON, "it is no JSON").with("traceparent", "00-…");
        let again = letter.attributes_for_a_new_life();
        assert_eq!(again["source_message_id"].string_value(), Some("b"));
        assert_eq!(again["traceparent"].string_value(), Some("00-…"));
        assert_eq!(again.len(), 2);
        let again = letter.with(SOURCE_MESSAGE_ID, "a").attributes_for_a_new_life();
        assert_eq!(again["source_message_id"].string_value(), Some("a"));
    }
}
