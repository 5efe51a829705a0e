//! One walk through a dead-letter queue. SQS cannot show a message without hiding it for a while, so what was seen stays hidden
//! until the walk is over, and the next receive brings others; then it is given back. A walk that is killed leaves nothing hidden
//! for longer than [`HIDDEN_SECONDS`].

use std::collections::{HashMap, HashSet};

use tasker_aws::{CallError, QueueAdmin, SOURCE_MESSAGE_ID, SqsMessage};
use tasker_queue::Receipt;

/// Seconds that a letter is hidden by being looked at, if nobody gives it back.
const HIDDEN_SECONDS: u16 = 30;
/// One second makes SQS ask all its machines.
const WAIT_SECONDS: u8 = 1;
/// Letters that one walk looks at; SQS hides at most 120,000 of a queue.
const MOST: usize = 100_000;
/// Letters that come again in a row, beyond all that are held, before SQS is asked whether there are others.
const SLACK: usize = 30;
/// So often it is asked, and all may come again, before a walk is given up.
const PASSES: usize = 3;

/// What this run has looked at or sent, in any queue. What it sent and what died again is not looked at again: a function that gives
/// it up at once would else keep the run going for ever. A duplicate of what was sent waits for the next run, for it looks the same.
#[derive(Debug, Default)]
pub struct Known {
    seen: HashSet<String>,
    /// All ids by which something that was sent may come back: its own, and the first one, which is kept over all its deaths.
    sent: HashSet<String>,
}

impl Known {
    /// A letter that this run has sent, as a message of this id.
    pub fn add(&mut self, letter: &SqsMessage, id: String) {
        self.sent.extend([id, letter.first_id().to_owned()]);
    }

    /// Whether a letter is new here; from now on it is not.
    fn admit(&mut self, letter: &SqsMessage) -> bool {
        let ids = [Some(letter.id.as_str()), letter.attribute(SOURCE_MESSAGE_ID)];
        let was_sent = ids.into_iter().flatten().any(|id| self.sent.contains(id));
        self.seen.insert(letter.id.clone()) && !was_sent
    }
}

/// What comes again in a row. It hides nothing while it is less than what is held: a receive may bring one letter or ten, and what was
/// held for too long comes once more.
#[derive(Debug, Default)]
struct Repeats {
    letters: usize,
    passes: usize,
}

impl Repeats {
    /// Counts what came again. Whether all that is held may have come again by now; the next one then begins.
    fn pass(&mut self, letters: usize, held: usize) -> bool {
        self.letters += letters;
        let is_over = self.letters > held + SLACK;
        if is_over {
            *self = Self { letters: 0, passes: self.passes + 1 };
        }
        is_over
    }
}

/// A walk through a queue.
pub struct Scan<'a> {
    depot: &'a QueueAdmin,
    queue: &'a str,
    /// What is hidden, by its ids.
    held: HashMap<String, Receipt>,
    looked_at: usize,
    repeats: Repeats,
    given_up: bool,
}

impl<'a> Scan<'a> {
    /// Of a queue without a redrive policy.
    pub fn new(depot: &'a QueueAdmin, queue: &'a str) -> Self {
        Self { depot, queue, held: HashMap::new(), looked_at: 0, repeats: Repeats::default(), given_up: false }
    }

    /// The next letters that this run has not seen, which are the caller's to settle or to [`keep`](Self::keep). None: the walk is over.
    pub async fn next(&mut self, known: &mut Known) -> Result<Vec<SqsMessage>, CallError> {
        while self.looked_at < MOST {
            let letters = self.depot.receive(self.queue, HIDDEN_SECONDS, WAIT_SECONDS).await?;
            if letters.is_empty() {
                break;
            }
            let (fresh, seen): (Vec<_>, Vec<_>) = letters.into_iter().partition(|letter| known.admit(letter));
            seen.iter().for_each(|letter| self.keep(letter));
            if !fresh.is_empty() {
                self.repeats = Repeats::default();
                self.looked_at += fresh.len();
                return Ok(fresh);
            }
            if !self.repeats.pass(seen.len(), self.held.len()) {
                continue;
            }
            let is_done = self.holds_all().await;
            // What was not seen yet may still be behind what was.
            self.given_up = !is_done && self.repeats.passes == PASSES;
            if is_done || self.given_up {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Keeps a letter hidden until the walk is over; only the newest receipt gives it back.
    pub fn keep(&mut self, letter: &SqsMessage) {
        self.held.insert(letter.id.clone(), letter.receipt());
    }

    /// Whether there is nothing in the queue, as SQS counts, but what was seen.
    async fn holds_all(&self) -> bool {
        self.depot.facts(self.queue).await.is_ok_and(|facts| facts.total() <= self.held.len() as u64)
    }

    /// Whether the walk may have ended before the queue did.
    pub fn is_cut(&self) -> bool {
        self.looked_at >= MOST || self.given_up
    }

    /// Ends the walk: what it kept is there for everybody again.
    pub async fn end(self) {
        let held: Vec<Receipt> = self.held.into_values().collect();
        self.depot.release(self.queue, &held).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_new_once_and_what_comes_of_it_never() {
        let letter = |id: &str| SqsMessage { id: id.into(), ..SqsMessage::default() };
        let mut known = Known::default();
        assert!(known.admit(&letter("a")) && !known.admit(&letter("a")));
        known.add(&letter("a"), "copy".into());
        assert!(!known.admit(&letter("copy")), "given up again");
        assert!(!known.admit(&letter("b").with(SOURCE_MESSAGE_ID, "a")), "buried again");
        assert!(known.admit(&letter("c").with(SOURCE_MESSAGE_ID, "other")));
        known.add(&letter("c").with(SOURCE_MESSAGE_ID, "other"), "copy 2".into());
        assert!(!known.admit(&letter("d").with(SOURCE_MESSAGE_ID, "other")), "buried for the third time");
    }

    #[test]
    fn a_pass_is_over_once_all_that_is_held_may_have_come_again_however_few_a_receive_brings() {
        for letters in [1, 10] {
            let mut repeats = Repeats::default();
            let receives = (0..).take_while(|_| !repeats.pass(letters, 169)).count() + 1;
            assert_eq!((receives, repeats.letters, repeats.passes), (200 / letters, 0, 1), "{letters} a receive");
        }
    }

    #[test]
    fn letters_of_one_origin_are_all_seen_while_none_of_them_was_sent() {
        let letter = |id: &str| SqsMessage { id: id.into(), ..SqsMessage::default() }.with(SOURCE_MESSAGE_ID, "first");
        let mut known = Known::default();
        assert!(known.admit(&letter("a")) && known.admit(&letter("b")));
    }
}
