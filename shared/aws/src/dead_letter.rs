//! The queue that a function reads, seen from the side of who handles its messages: what can never be handled goes to its
//! dead-letter queue with the reason, what cannot be handled now comes again later.

use aws_sdk_sqs::{
    Client,
    types::{ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue},
};

use crate::{Queues, Received, bounds::BYTES, bounds::ENTRIES, dead_letter_queue, errors::said};

/// The attribute of a dead letter that says why it is one.
pub const REASON: &str = "reason";
/// The attribute of a message that was sent again from a dead-letter queue: the id that it had before.
pub const SOURCE_MESSAGE_ID: &str = "source_message_id";
/// Characters of a reason; an attribute counts into the size of its message.
const REASON_CHARS: usize = 500;
/// Seconds until a message whose handling the infrastructure prevented is looked at again, times its receives: a hundred receives
/// last two hours and a half, and the first ones seconds.
const SECONDS_A_RECEIVE: u32 = 2;
/// The longest such pause.
const LONGEST_SECONDS: u32 = 900;

/// A queue that is read.
#[derive(Debug, Clone)]
pub struct SqsSource {
    pub(crate) client: Client,
    pub(crate) url: String,
}

impl SqsSource {
    /// The queue of this ARN.
    pub fn of_arn(client: Client, queues: &Queues, arn: &str) -> Option<Self> {
        queues.url_of_arn(arn).map(|url| Self { client, url })
    }

    /// The queue of this URL.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts a copy of a message that can never be handled into the dead-letter queue. True: it is safe there, and may leave this one.
    pub async fn bury(&self, message: &Received, reason: &str) -> bool {
        let text = |value: &str| {
            MessageAttributeValue::builder().data_type("String").string_value(value).build().expect("a type is given")
        };
        let mut request = self.client.send_message().queue_url(dead_letter_queue(&self.url)).message_body(&message.body);
        for (name, value) in attributes(message, reason) {
            request = request.message_attributes(name, text(&value));
        }
        match request.send().await {
            Ok(_) => {
                tracing::error!(
                    message_id = message.id,
                    reason,
                    "a message that can never be handled went to the dead-letter queue"
                );
                true
            }
            Err(e) => {
                tracing::error!(
                    message_id = message.id,
                    error = said(&e),
                    "a dead letter could not be sent; the message comes again"
                );
                false
            }
        }
    }

    /// Lets messages whose handling the infrastructure prevented come again soon, and later each time. When it fails they come when
    /// their visibility time-out is over.
    pub async fn postpone(&self, messages: &[&Received]) {
        for chunk in messages.chunks(ENTRIES) {
            let entry = |(place, message): (usize, &&Received)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(place.to_string())
                    .receipt_handle(&message.receipt)
                    .visibility_timeout(pause_seconds(message.receives) as i32)
                    .build()
                    .expect("an id and a receipt are given")
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let request = self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
            if let Err(e) = request.send().await {
                tracing::warn!(error = said(&e), "messages could not be put off");
            }
        }
    }
}

/// What is said with a dead letter, the most important first, as far as there is room beside its body.
fn attributes(message: &Received, reason: &str) -> Vec<(&'static str, String)> {
    let allowed = |c: &char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    let reason: String = reason.chars().filter(allowed).take(REASON_CHARS).collect();
    let all = [
        (SOURCE_MESSAGE_ID, Some(message.first_id().to_owned())),
        (REASON, Some(reason)),
        ("traceparent", message.traceparent.clone()),
    ];
    let mut room = BYTES.saturating_sub(message.body.len());
    let mut said = Vec::new();
    for (name, value) in all {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let bytes = name.len() + value.len() + "String".len();
        if bytes <= room {
            room -= bytes;
            said.push((name, value));
        }
    }
    said
}

fn pause_seconds(receives: u32) -> u32 {
    receives.max(1).saturating_mul(SECONDS_A_RECEIVE).min(LONGEST_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_with_a_letter_fits_beside_its_body_and_into_what_sqs_takes() {
        let letter = |bytes: usize| Received {
            id: "first".into(),
            receipt: String::new(),
            receives: 1,
            body: "x".repeat(bytes),
            traceparent: None,
            source_id: None,
        };
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
