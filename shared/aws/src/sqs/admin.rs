//! The operator's side of a deployment's queues: their names, their counts, and their dead letters.

use aws_sdk_sqs::{Client, types::QueueAttributeName};
use serde::Deserialize;
use tasker_queue::Receipt;

use super::{CallError, ENTRIES, SqsMessage, hide, receive, trace_attribute};
use crate::Queues;

/// Names per page: the maximum of SQS.
const PAGE: i32 = 1000;

#[derive(Debug, Clone)]
pub struct QueueAdmin {
    client: Client,
    queues: Queues,
}

/// The attributes of a queue. SQS counts approximately, and may lag by a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueFacts {
    pub arn: String,
    /// Messages that can be received.
    pub waiting: u64,
    /// Messages that were received and are hidden.
    pub in_flight: u64,
    /// Messages that cannot be received yet.
    pub delayed: u64,
    pub visibility_seconds: u64,
    /// Receives after which a message is moved to the dead-letter queue, if there is one.
    pub max_receives: Option<u64>,
}

impl QueueFacts {
    pub fn total(&self) -> u64 {
        self.waiting + self.in_flight + self.delayed
    }
}

/// A message move task (`StartMessageMoveTask`) of a whole dead-letter queue. SQS lists the last ten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// RUNNING, COMPLETED, CANCELLING, CANCELLED or FAILED.
    pub status: String,
    /// Approximate.
    pub moved: i64,
    /// How many there were to move; approximate.
    pub of: Option<i64>,
    pub failure: Option<String>,
    /// In milliseconds since 1970.
    pub started_ms: i64,
}

impl QueueAdmin {
    pub fn new(client: Client, queues: Queues) -> Self {
        Self { client, queues }
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// The sorted names of all queues.
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

    /// Receives at most ten messages of a queue; see [`receive`].
    pub async fn receive(&self, name: &str, hidden_seconds: u16, wait_seconds: u8) -> Result<Vec<SqsMessage>, CallError> {
        receive(&self.client, &self.url(name), ENTRIES, wait_seconds, Some(hidden_seconds)).await
    }

    /// Makes received messages visible again.
    pub async fn release(&self, name: &str, messages: &[Receipt]) {
        let messages: Vec<_> = messages.iter().map(|receipt| (receipt, 0)).collect();
        hide(&self.client, &self.url(name), &messages).await;
    }

    /// Sends a dead letter to a queue with its [attributes](SqsMessage::attributes_to_keep), and returns its new id.
    pub async fn send(&self, name: &str, message: &SqsMessage) -> Result<String, CallError> {
        let request = self
            .client
            .send_message()
            .queue_url(self.url(name))
            .message_body(&message.body)
            .set_message_attributes(Some(message.attributes_to_keep()))
            .set_message_system_attributes(message.trace_header.clone().map(trace_attribute))
            .set_message_group_id(message.group.clone());
        let answer = request.send().await.map_err(CallError::of)?;
        Ok(answer.message_id.unwrap_or_default())
    }

    /// Deletes a message.
    pub async fn delete(&self, name: &str, message: &SqsMessage) -> Result<(), CallError> {
        let request = self.client.delete_message().queue_url(self.url(name)).receipt_handle(&message.handle);
        request.send().await.map(drop).map_err(CallError::of)
    }

    /// Lets SQS move all messages from one queue to another, both given by ARN.
    pub async fn start_move(&self, from_arn: &str, to_arn: &str, per_second: u32) -> Result<(), CallError> {
        let request = self.client.start_message_move_task().source_arn(from_arn).destination_arn(to_arn);
        let request = request.max_number_of_messages_per_second(per_second as i32);
        request.send().await.map(drop).map_err(CallError::of)
    }

    /// The moves from a queue, newest first.
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

/// Emulators write the number as a string.
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
