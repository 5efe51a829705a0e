//! The queues of a deployment from the side of who operates it: which there are, what is in them, and the letters in those for dead
//! letters. It receives from nothing but the queue it is told, and decides nothing.

use std::collections::HashMap;

use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeName, MessageSystemAttributeNameForSends,
        MessageSystemAttributeValue, QueueAttributeName,
    },
};
use serde::Deserialize;

use crate::{DeadLetter, Queues, bounds::ENTRIES, errors::said};

/// Names on one page; SQS gives no more.
const PAGE: i32 = 1000;

/// The queues of a deployment.
#[derive(Debug, Clone)]
pub struct QueueAdmin {
    client: Client,
    queues: Queues,
}

/// A call that SQS did not carry out, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// SQS answered that it does not do this.
    #[error("{0}")]
    Refused(String),
    /// No answer came, or nothing could be asked.
    #[error("{0}")]
    Unanswered(String),
}

/// What SQS knows of a queue. Its counts are approximate: they come from several machines, and follow within a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// For calls that want no URL.
    pub arn: String,
    /// Messages that can be received.
    pub waiting: u64,
    /// Messages that were received, and neither deleted nor given back.
    pub in_flight: u64,
    /// Messages that cannot be received yet.
    pub delayed: u64,
    /// Seconds that a received message stays in flight.
    pub visibility_seconds: u64,
    /// After so many receives a message goes to the dead-letter queue, if there is one.
    pub max_receives: Option<u64>,
}

impl QueueFacts {
    /// All messages in the queue.
    pub fn total(&self) -> u64 {
        self.waiting + self.in_flight + self.delayed
    }
}

/// A run of SQS's own that moves a whole dead-letter queue. The service knows at most ten of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// RUNNING, COMPLETED, CANCELLING, CANCELLED or FAILED.
    pub status: String,
    /// Letters moved so far, about.
    pub moved: i64,
    /// Letters there were, about.
    pub of: Option<i64>,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
}

impl QueueAdmin {
    /// Of queues that are there already.
    pub fn new(client: Client, queues: Queues) -> Self {
        Self { client, queues }
    }

    /// Where the queues are.
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The names of all queues of the deployment, sorted.
    pub async fn names(&self) -> Result<Vec<String>, CallError> {
        let request = self.client.list_queues().queue_name_prefix(self.queues.prefix());
        let mut urls = request.into_paginator().page_size(PAGE).items().send();
        let mut names = Vec::new();
        while let Some(url) = urls.next().await {
            let url = url.map_err(CallError::of)?;
            names.extend(url.rsplit('/').next().filter(|name| self.queues.has(name)).map(str::to_owned));
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// What SQS knows of a queue.
    pub async fn facts(&self, name: &str) -> Result<QueueFacts, CallError> {
        let request = self.client.get_queue_attributes().queue_url(self.url(name)).attribute_names(QueueAttributeName::All);
        let attributes = request.send().await.map_err(CallError::of)?.attributes.unwrap_or_default();
        let number = |name| attributes.get(&name).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(QueueFacts {
            arn: attributes.get(&QueueAttributeName::QueueArn).cloned().unwrap_or_default(),
            waiting: number(QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            delayed: number(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
            visibility_seconds: number(QueueAttributeName::VisibilityTimeout),
            max_receives: attributes.get(&QueueAttributeName::RedrivePolicy).and_then(|policy| max_receives(policy)),
        })
    }

    /// At most ten letters of a queue, hidden from others for so many seconds; none when none came within `wait_seconds`. A wait of a
    /// second or more asks all machines of SQS, a shorter one only some.
    pub async fn receive(&self, name: &str, hidden_seconds: u16, wait_seconds: u8) -> Result<Vec<DeadLetter>, CallError> {
        let request = self
            .client
            .receive_message()
            .queue_url(self.url(name))
            .max_number_of_messages(ENTRIES as i32)
            .visibility_timeout(hidden_seconds.into())
            .wait_time_seconds(wait_seconds.into())
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All");
        let answer = request.send().await.map_err(CallError::of)?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(DeadLetter::from).collect())
    }

    /// Shows letters to everybody again. What this does not reach is shown when its time is over.
    pub async fn release(&self, name: &str, letters: &[DeadLetter]) {
        for chunk in letters.chunks(ENTRIES) {
            let entry = |(place, letter): (usize, &DeadLetter)| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(place.to_string());
                entry.receipt_handle(&letter.receipt).visibility_timeout(0).build().expect("an id and a receipt are given")
            };
            let entries = chunk.iter().enumerate().map(entry).collect();
            let request = self.client.change_message_visibility_batch().queue_url(self.url(name)).set_entries(Some(entries));
            if let Err(error) = request.send().await.map_err(CallError::of) {
                tracing::debug!(%error, "letters stay hidden until their time is over");
            }
        }
    }

    /// Sends a letter to a queue, with its attributes, what it was called before, and without the reason of its death. Answers the
    /// id that it has there.
    pub async fn send(&self, name: &str, letter: &DeadLetter) -> Result<String, CallError> {
        let header = letter.trace_header.as_deref().map(|header| {
            let value = MessageSystemAttributeValue::builder().data_type("String").string_value(header).build();
            HashMap::from([(MessageSystemAttributeNameForSends::AwsTraceHeader, value.expect("a type is given"))])
        });
        let request = self
            .client
            .send_message()
            .queue_url(self.url(name))
            .message_body(&letter.body)
            .set_message_attributes(Some(letter.attributes_for_a_new_life()))
            .set_message_system_attributes(header)
            .set_message_group_id(letter.group.clone());
        let answer = request.send().await.map_err(CallError::of)?;
        Ok(answer.message_id.unwrap_or_default())
    }

    /// Deletes a letter.
    pub async fn delete(&self, name: &str, letter: &DeadLetter) -> Result<(), CallError> {
        let request = self.client.delete_message().queue_url(self.url(name)).receipt_handle(&letter.receipt);
        request.send().await.map(drop).map_err(CallError::of)
    }

    /// Has SQS move all letters from one queue to the other, both by their ARNs, at most so many a second.
    pub async fn start_move(&self, from_arn: &str, to_arn: &str, per_second: u32) -> Result<(), CallError> {
        let request = self.client.start_message_move_task().source_arn(from_arn).destination_arn(to_arn);
        let request = request.max_number_of_messages_per_second(per_second as i32);
        request.send().await.map(drop).map_err(CallError::of)
    }

    /// SQS's moves from a queue, the newest first.
    pub async fn moves(&self, from_arn: &str) -> Result<Vec<Move>, CallError> {
        let request = self.client.list_message_move_tasks().source_arn(from_arn).max_results(ENTRIES as i32);
        let answer = request.send().await.map_err(CallError::of)?;
        let one = |entry: aws_sdk_sqs::types::ListMessageMoveTasksResultEntry| Move {
            moved: entry.approximate_number_of_messages_moved(),
            of: entry.approximate_number_of_messages_to_move(),
            started_ms: entry.started_timestamp(),
            status: entry.status.unwrap_or_default(),
            failure: entry.failure_reason,
        };
        let mut moves: Vec<Move> = answer.results.unwrap_or_default().into_iter().map(one).collect();
        moves.sort_by_key(|one| std::cmp::Reverse(one.started_ms));
        Ok(moves)
    }

    fn url(&self, name: &str) -> String {
        self.queues.url_of_name(name).unwrap_or_default()
    }
}

impl CallError {
    fn of<E, R>(error: SdkError<E, R>) -> Self
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
        R: std::fmt::Debug + 'static,
    {
        let why = said(&error);
        match error {
            SdkError::ServiceError(_) => Self::Refused(why),
            _ => Self::Unanswered(why),
        }
    }
}

/// Emulators write the number as a text.
fn max_receives(policy: &str) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy {
        max_receive_count: serde_json::Value,
    }
    let count = serde_json::from_str::<Policy>(policy).ok()?.max_receive_count;
    count.as_u64().or_else(|| count.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_policy_says_its_count_as_a_number_or_as_a_text() {
        assert_eq!(max_receives(r#"{"deadLetterTargetArn":"a","maxReceiveCount":5}"#), Some(5));
        assert_eq!(max_receives(r#"{"deadLetterTargetArn":"a","maxReceiveCount":"100"}"#), Some(100));
        assert_eq!(max_receives(""), None);
    }
}
