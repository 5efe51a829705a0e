//! SQS: the sending and the receiving side, the operator's side, and the calls that they share.

mod admin;
mod message;
mod receive;
mod send;

use std::collections::HashMap;

use aws_lambda_events::sqs::SqsBatchResponse;
use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName,
        MessageSystemAttributeNameForSends, MessageSystemAttributeValue,
    },
};
use tasker_queue::Receipt;

pub use admin::{Move, QueueAdmin, QueueFacts};
pub use message::{REASON, SOURCE_MESSAGE_ID, SqsMessage};
pub use receive::SqsSource;
pub use send::SqsQueue;

use crate::errors::call_error;

/// Messages per call: the maximum of SQS.
const ENTRIES: usize = 10;
/// Bytes of a message with its attributes, and of all messages of one call.
const BYTES: usize = 1024 * 1024;

/// Why a call to SQS failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// SQS rejected the call.
    #[error("{0}")]
    Refused(String),
    /// SQS did not respond, or could not be reached.
    #[error("{0}")]
    Unanswered(String),
}

impl CallError {
    fn of<E, R>(error: SdkError<E, R>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        let why = call_error(&error);
        match error {
            SdkError::ServiceError(_) => Self::Refused(why),
            _ => Self::Unanswered(why),
        }
    }
}

/// A function's response to a batch, with the ids of the messages that must be delivered again.
pub fn batch_response(again: impl IntoIterator<Item = String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.set_failures(again);
    response
}

/// Receives at most ten messages within `wait_seconds`. A wait of at least a second asks all servers of SQS, a shorter one only some.
/// The messages stay hidden for `hidden_seconds`, by default for the queue's visibility timeout.
async fn receive(
    client: &Client,
    url: &str,
    most: usize,
    wait_seconds: u8,
    hidden_seconds: Option<u16>,
) -> Result<Vec<SqsMessage>, CallError> {
    let request = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(most.clamp(1, ENTRIES) as i32)
        .wait_time_seconds(wait_seconds.into())
        .set_visibility_timeout(hidden_seconds.map(i32::from))
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .message_attribute_names("All");
    let answer = request.send().await.map_err(CallError::of)?;
    Ok(answer.messages.unwrap_or_default().into_iter().map(SqsMessage::from).collect())
}

/// Hides each delivery for so many seconds from now; 0 shows it immediately. If this fails, the earlier timeout applies.
async fn hide(client: &Client, url: &str, deliveries: &[(&Receipt, u64)]) {
    for chunk in deliveries.chunks(ENTRIES) {
        let entry = |(place, (receipt, seconds)): (usize, &(&Receipt, u64))| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(place.to_string());
            let entry = entry.receipt_handle(&receipt.handle).visibility_timeout(*seconds as i32);
            entry.build().expect("an id and a receipt are given")
        };
        let entries = chunk.iter().enumerate().map(entry).collect();
        let request = client.change_message_visibility_batch().queue_url(url).set_entries(Some(entries));
        let failed = request.send().await.map(|answer| answer.failed.len()).map_err(CallError::of);
        tell(failed, "the visibility timeout of messages could not be changed; they will be delivered again when it is over");
    }
}

fn tell(failed: Result<usize, CallError>, what: &str) {
    match failed {
        Ok(0) => {}
        Ok(messages) => tracing::warn!(messages, "{what}"),
        Err(error) => tracing::warn!(%error, "{what}"),
    }
}

fn text(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder().data_type("String").string_value(value).build().expect("a type is given")
}

/// The system attribute that names a message's trace to AWS.
fn trace_attribute(header: String) -> HashMap<MessageSystemAttributeNameForSends, MessageSystemAttributeValue> {
    let value = MessageSystemAttributeValue::builder().data_type("String").string_value(header).build();
    HashMap::from([(MessageSystemAttributeNameForSends::AwsTraceHeader, value.expect("a type is given"))])
}
