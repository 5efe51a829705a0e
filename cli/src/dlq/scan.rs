//! Reads a dead-letter queue from end to end. SQS cannot show a message without hiding it for a while, so a scan keeps what it saw
//! hidden, because the next receive then returns other messages, and shows all of it again at its end. A killed scan hides nothing for
//! longer than [`HIDDEN_SECONDS`].

use std::collections::{HashMap, HashSet};

use tasker_aws::{QueueAdmin, SOURCE_MESSAGE_ID, SqsMessage};
use tasker_queue::Receipt;

use crate::{deployment::failure, error::Result};

/// How long a received message stays hidden if the scan does not end properly.
const HIDDEN_SECONDS: u16 = 30;
/// With a wait of one second, SQS asks all its servers.
const WAIT_SECONDS: u8 = 1;
/// Messages that one scan reads. SQS hides at most 120,000 of a queue.
const MOST: usize = 100_000;
/// Repeated messages in a row, beyond the number of kept ones, before the scan asks SQS whether there are others.
const SLACK: usize = 30;
/// How often it asks, and reads all messages once more, before it gives up.
const PASSES: usize = 3;

/// The messages that this command has read or sent, in any queue. A sent message that becomes a dead letter again is ignored: a
/// function that always rejects it would keep the command running forever. Duplicates of a sent message look the same, so they wait for
/// the next run.
#[derive(Debug, Default)]
pub struct Seen {
    ids: HashSet<String>,
    /// The ids by which a sent message may come back: its new id, and its first id, which every redrive keeps.
    sent: HashSet<String>,
}

impl Seen {
    /// Records that `message` was sent with a new id.
    pub fn add_sent(&mut self, message: &SqsMessage, new_id: String) {
        self.sent.extend([new_id, message.first_id().to_owned()]);
    }

    /// Records a message. True if it is new.
    fn admit(&mut self, message: &SqsMessage) -> bool {
        let ids = [Some(message.id.as_str()), message.attribute(SOURCE_MESSAGE_ID)];
        let was_sent = ids.into_iter().flatten().any(|id| self.sent.contains(id));
        self.ids.insert(message.id.clone()) && !was_sent
    }
}

/// Counts consecutive repeated messages. A pass needs as many as are kept: a receive returns one to ten messages, and a message
/// is returned again when its visibility timeout expires.
#[derive(Debug, Default)]
struct Repeats {
    messages: usize,
    passes: usize,
}

impl Repeats {
    /// Adds repeated messages. True, and a new pass begins, if all kept messages may have been received again.
    fn pass(&mut self, messages: usize, kept: usize) -> bool {
        self.messages += messages;
        let is_over = self.messages > kept + SLACK;
        if is_over {
            *self = Self { messages: 0, passes: self.passes + 1 };
        }
        is_over
    }
}

pub struct Scan<'a> {
    admin: &'a QueueAdmin,
    queue: &'a str,
    /// The hidden messages by their ids.
    kept: HashMap<String, Receipt>,
    read: usize,
    repeats: Repeats,
    given_up: bool,
}

impl<'a> Scan<'a> {
    /// The queue must have no redrive policy, because each receive counts.
    pub fn new(admin: &'a QueueAdmin, queue: &'a str) -> Self {
        Self { admin, queue, kept: HashMap::new(), read: 0, repeats: Repeats::default(), given_up: false }
    }

    /// The next new messages. The caller deletes each of them or passes it to [`keep`](Self::keep). None at the end of the scan.
    pub async fn next(&mut self, seen: &mut Seen) -> Result<Vec<SqsMessage>> {
        while self.read < MOST {
            let messages = self.admin.receive(self.queue, HIDDEN_SECONDS, WAIT_SECONDS).await;
            let messages = messages.map_err(|error| failure(&format!("look into {}", self.queue), &error))?;
            if messages.is_empty() {
                break;
            }
            let (fresh, repeated): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| seen.admit(message));
            repeated.iter().for_each(|message| self.keep(message));
            if !fresh.is_empty() {
                self.repeats = Repeats::default();
                self.read += fresh.len();
                return Ok(fresh);
            }
            if !self.repeats.pass(repeated.len(), self.kept.len()) {
                continue;
            }
            let is_done = self.keeps_all().await;
            // Unread messages may still be behind the repeated ones.
            self.given_up = !is_done && self.repeats.passes == PASSES;
            if is_done || self.given_up {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Keeps a message hidden until the scan ends. Only its newest receipt can show it again.
    pub fn keep(&mut self, message: &SqsMessage) {
        self.kept.insert(message.id.clone(), message.receipt());
    }

    /// Whether, by SQS's count, the queue has only the kept messages.
    async fn keeps_all(&self) -> bool {
        self.admin.facts(self.queue).await.is_ok_and(|facts| facts.total() <= self.kept.len() as u64)
    }

    /// Whether the scan may have ended before the end of the queue.
    pub fn is_cut(&self) -> bool {
        self.read >= MOST || self.given_up
    }

    /// Shows the kept messages to all receivers again.
    pub async fn end(self) {
        let kept: Vec<Receipt> = self.kept.into_values().collect();
        self.admin.release(self.queue, &kept).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_new_once_and_its_copies_are_never_new() {
        let message = |id: &str| SqsMessage { id: id.into(), ..SqsMessage::default() };
        let mut seen = Seen::default();
        assert!(seen.admit(&message("a")) && !seen.admit(&message("a")));
        seen.add_sent(&message("a"), "copy".into());
        assert!(!seen.admit(&message("copy")), "given up again");
        assert!(!seen.admit(&message("b").with(SOURCE_MESSAGE_ID, "a")), "buried again");
        assert!(seen.admit(&message("c").with(SOURCE_MESSAGE_ID, "other")));
        seen.add_sent(&message("c").with(SOURCE_MESSAGE_ID, "other"), "copy 2".into());
        assert!(!seen.admit(&message("d").with(SOURCE_MESSAGE_ID, "other")), "buried for the third time");
    }

    #[test]
    fn a_pass_ends_after_as_many_repeated_messages_as_are_kept() {
        for messages in [1, 10] {
            let mut repeats = Repeats::default();
            let receives = (0..).take_while(|_| !repeats.pass(messages, 169)).count() + 1;
            assert_eq!((receives, repeats.messages, repeats.passes), (200 / messages, 0, 1), "{messages} a receive");
        }
    }

    #[test]
    fn messages_of_one_origin_are_all_seen_while_none_of_them_was_sent() {
        let message = |id: &str| SqsMessage { id: id.into(), ..SqsMessage::default() }.with(SOURCE_MESSAGE_ID, "first");
        let mut seen = Seen::default();
        assert!(seen.admit(&message("a")) && seen.admit(&message("b")));
    }
}
