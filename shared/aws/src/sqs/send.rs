//! The sending side of the queues.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
};
use futures::{StreamExt, stream};
use tasker_queue::{Outgoing, Queue, SendError, SendResult};

use super::{BYTES, ENTRIES, text, trace_attribute};
use crate::{Destination, Queues, errors::call_error, trace_header};

/// Bytes reserved for the names and types of a message's attributes, and for its trace header.
const ATTRIBUTE_BYTES: usize = 512;
/// The longest delay of SQS.
const DELAY: Duration = Duration::from_secs(900);
/// Concurrent calls.
const CALLS: usize = 8;

/// The queues of a deployment.
///
/// A wake-up beyond the longest delay of SQS is not sent: the sweep, which runs each minute, finds the retry.
#[derive(Clone)]
pub struct SqsQueue {
    client: Client,
    queues: Queues,
    /// Whether standard queues accept a group, which shares workers fairly among namespaces. Emulators may reject it.
    groups: Arc<AtomicBool>,
}

struct Entry {
    /// The index of the message in the call.
    place: usize,
    body: String,
    delay: Duration,
    group: Option<String>,
    attributes: Vec<(&'static str, String)>,
    traceparent: Option<String>,
}

impl SqsQueue {
    pub fn new(client: Client, queues: Queues) -> Self {
        Self { client, queues, groups: Arc::new(AtomicBool::new(true)) }
    }

    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends at most ten messages, and returns their results by place.
    async fn send_batch(&self, url: &str, batch: Vec<Entry>) -> Vec<(usize, SendResult)> {
        let places: Vec<usize> = batch.iter().map(|entry| entry.place).collect();
        let groups = self.groups.load(Relaxed);
        let request = |groups| {
            let entries = batch.iter().map(|entry| entry.request(groups)).collect();
            self.client.send_message_batch().queue_url(url).set_entries(Some(entries)).send()
        };
        let mut answer = request(groups).await;
        if groups && answer.as_ref().is_err_and(|e| e.message().is_some_and(|m| m.contains("MessageGroupId"))) {
            self.groups.store(false, Relaxed);
            answer = request(false).await;
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => {
                let refused = SendError::Refused(call_error(&e));
                return places.into_iter().map(|place| (place, Err(refused.clone()))).collect();
            }
        };
        let failed: HashMap<&str, String> =
            answer.failed().iter().map(|f| (f.id(), format!("{} ({})", f.message().unwrap_or("no reason"), f.code()))).collect();
        if groups && failed.values().any(|why| why.contains("MessageGroupId")) {
            self.groups.store(false, Relaxed);
        }
        let sent: HashSet<&str> = answer.successful().iter().map(|s| s.id()).collect();
        places.into_iter().map(|place| (place, result(&place.to_string(), &sent, &failed))).collect()
    }
}

/// Only a message that SQS confirms is sent.
fn result(id: &str, sent: &HashSet<&str>, failed: &HashMap<&str, String>) -> SendResult {
    if sent.contains(id) {
        return Ok(());
    }
    let why = failed.get(id).map_or("SQS did not confirm the message", String::as_str);
    Err(SendError::Refused(why.to_owned()))
}

impl Queue for SqsQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let mut results: Vec<SendResult> = vec![Ok(()); messages.len()];
        let mut by_queue: HashMap<Destination, Vec<Entry>> = HashMap::new();
        for (place, outgoing) in messages.into_iter().enumerate() {
            if matches!(&outgoing, Outgoing::Evaluate { delay, .. } if *delay > DELAY) {
                continue;
            }
            let entry = Entry::new(place, &outgoing);
            if entry.bytes() > BYTES {
                results[place] = Err(SendError::TooLarge { bytes: entry.bytes(), most: BYTES });
                continue;
            }
            by_queue.entry((&outgoing).into()).or_default().push(entry);
        }
        let mut calls = Vec::new();
        for (to, entries) in by_queue {
            let Some(url) = self.queues.url(&to) else {
                let why = SendError::Refused(format!("{to:?} is not a valid queue name"));
                entries.iter().for_each(|entry| results[entry.place] = Err(why.clone()));
                continue;
            };
            calls.extend(batches(entries).into_iter().map(|batch| (url.clone(), batch)));
        }
        let mut answers =
            stream::iter(calls).map(|(url, batch)| async move { self.send_batch(&url, batch).await }).buffer_unordered(CALLS);
        while let Some(answered) = answers.next().await {
            answered.into_iter().for_each(|(place, result)| results[place] = result);
        }
        drop(answers);
        results
    }
}

impl Entry {
    fn new(place: usize, outgoing: &Outgoing) -> Self {
        let now = Duration::ZERO;
        let (body, group, correlation_id, traceparent, delay) = match outgoing {
            Outgoing::RunStep { step: m, .. } => {
                (json(m), Some(m.namespace.clone()), Some(m.correlation_id), m.traceparent.clone(), now)
            }
            Outgoing::CompleteStep(m) => (json(m), None, m.correlation_id, m.traceparent.clone(), now),
            Outgoing::Evaluate { wake_up, delay } => (json(wake_up), None, None, None, *delay),
        };
        let mut attributes = Vec::new();
        attributes.extend(correlation_id.map(|id| ("correlation_id", id.to_string())));
        attributes.extend(traceparent.clone().map(|t| ("traceparent", t)));
        Self { place, body, delay: delay.min(DELAY), group, attributes, traceparent }
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.attributes.iter().map(|(_, value)| value.len()).sum::<usize>() + ATTRIBUTE_BYTES
    }

    fn request(&self, groups: bool) -> SendMessageBatchRequestEntry {
        let header = self.traceparent.as_deref().and_then(trace_header).map(trace_attribute);
        let attributes: HashMap<String, MessageAttributeValue> =
            self.attributes.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        SendMessageBatchRequestEntry::builder()
            .id(self.place.to_string())
            .message_body(&self.body)
            // Rounded up: an early wake-up would be sent again.
            .delay_seconds(self.delay.as_millis().div_ceil(1000) as i32)
            .set_message_group_id(self.group.clone().filter(|_| groups))
            .set_message_attributes((!attributes.is_empty()).then_some(attributes))
            .set_message_system_attributes(header)
            .build()
            .expect("an id and a body are given")
    }
}

/// As few calls as the limits of SQS allow, in the given order.
fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut batches: Vec<(usize, Vec<Entry>)> = Vec::new();
    for entry in entries {
        let bytes = entry.bytes();
        match batches.last_mut() {
            Some((total, batch)) if batch.len() < ENTRIES && *total + bytes <= BYTES => {
                *total += bytes;
                batch.push(entry);
            }
            _ => batches.push((bytes, vec![entry])),
        }
    }
    batches.into_iter().map(|(_, batch)| batch).collect()
}

/// The JSON of a message. SQS rejects two characters that JSON allows. They occur only in strings, where they can be escaped.
fn json<T: serde::Serialize>(message: &T) -> String {
    let text = serde_json::to_string(message).expect("a message serializes");
    if text.contains(['\u{fffe}', '\u{ffff}']) {
        return text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(place: usize, bytes: usize) -> Entry {
        let body = "x".repeat(bytes);
        Entry { place, body, delay: Duration::ZERO, group: None, attributes: vec![], traceparent: None }
    }

    #[test]
    fn a_call_holds_ten_messages_and_a_mebibyte_at_most() {
        let sizes = |entries: Vec<Entry>| batches(entries).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes((0..23).map(|i| entry(i, 10)).collect()), [10, 10, 3]);
        assert_eq!(sizes((0..4).map(|i| entry(i, 400 * 1024)).collect()), [2, 2]);
        assert_eq!(sizes(vec![entry(0, BYTES - ATTRIBUTE_BYTES), entry(1, 0)]), [1, 1]);
    }

    #[test]
    fn a_message_that_sqs_does_not_confirm_was_not_sent() {
        let (sent, failed) = (HashSet::from(["0"]), HashMap::from([("1", "no (InternalError)".to_owned())]));
        let refused = |id| result(id, &sent, &failed).unwrap_err().to_string();
        assert!(result("0", &sent, &failed).is_ok());
        assert!(refused("1").contains("InternalError") && refused("2").contains("did not confirm"));
    }

    #[test]
    fn characters_that_sqs_refuses_are_escaped_and_mean_the_same() {
        let value = serde_json::json!({"a": "x\u{ffff}y\u{fffe}\u{10ffff}"});
        let text = json(&value);
        assert!(!text.contains(['\u{fffe}', '\u{ffff}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
