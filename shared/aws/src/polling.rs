//! The queue seen from the side of who polls it, where no platform hands messages over and takes them out of the queue.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    error::{ProvideErrorMetadata, SdkError},
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName,
        QueueAttributeName,
    },
};

use crate::{Received, SqsSource, bounds::ENTRIES, errors::said};

/// The queue did not do what it was asked for, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct QueueError(String);

impl QueueError {
    fn of<E, R>(error: SdkError<E, R>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        Self(said(&error))
    }
}

impl SqsSource {
    /// How long a message that was received stays invisible.
    pub async fn visibility(&self) -> Result<Duration, QueueError> {
        let name = QueueAttributeName::VisibilityTimeout;
        let request = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone());
        let answer = request.send().await.map_err(QueueError::of)?;
        let seconds = answer.attributes().and_then(|all| all.get(&name)).and_then(|text| text.parse().ok());
        seconds.map(Duration::from_secs).ok_or_else(|| QueueError("the queue does not tell its VisibilityTimeout".into()))
    }

    /// Waits at most `wait` for messages, and takes at most `most`, of which SQS gives at most ten.
    pub async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Received>, QueueError> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(most.clamp(1, ENTRIES) as i32)
            .wait_time_seconds(wait.as_secs() as i32)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::AwsTraceHeader)
            .message_attribute_names("All");
        let answer = request.send().await.map_err(QueueError::of)?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(Received::from).collect())
    }

    /// Takes messages out of the queue. What this does not reach comes again.
    pub async fn delete(&self, messages: &[&Received]) {
        for chunk in messages.chunks(ENTRIES) {
            let entry = |(place, message): (usize, &&Received)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(place.to_string()).receipt_handle(&message.receipt);
                entry.build().expect("an id and a receipt are given")
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let answer = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries)).send().await;
            let failed = answer.map(|a| a.failed.len()).map_err(QueueError::of);
            tell(failed, "messages that are done with could not be deleted; they come again");
        }
    }

    /// Keeps messages invisible for `time` from now; with none they are visible at once.
    pub async fn keep(&self, messages: &[&Received], time: Duration) {
        for chunk in messages.chunks(ENTRIES) {
            let entry = |(place, message): (usize, &&Received)| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(place.to_string());
                let entry = entry.receipt_handle(&message.receipt).visibility_timeout(time.as_secs() as i32);
                entry.build().expect("an id and a receipt are given")
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let request = self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
            let failed = request.send().await.map(|a| a.failed.len()).map_err(QueueError::of);
            tell(failed, "the time of messages could not be changed; they come again when it is over");
        }
    }
}

fn tell(failed: Result<usize, QueueError>, what: &str) {
    match failed {
        Ok(0) => {}
        Ok(messages) => tracing::warn!(messages, "{what}"),
        Err(error) => tracing::warn!(%error, "{what}"),
    }
}

impl From<Message> for Received {
    fn from(message: Message) -> Self {
        let system = message.attributes.unwrap_or_default();
        let mut attributes = message.message_attributes.unwrap_or_default();
        let mut attribute = |name: &str| attributes.remove(name).and_then(|a| a.string_value);
        let header =
            |attributes: &HashMap<_, String>| crate::traceparent_of(attributes.get(&MessageSystemAttributeName::AwsTraceHeader)?);
        Self {
            receives: system
                .get(&MessageSystemAttributeName::ApproximateReceiveCount)
                .and_then(|count| count.parse().ok())
                .unwrap_or(1),
            traceparent: attribute("traceparent").filter(|t| tasker_wire::message::is_traceparent(t)).or_else(|| header(&system)),
            source_id: attribute(crate::SOURCE_MESSAGE_ID),
            id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            body: message.body.unwrap_or_default(),
        }
    }
}
