//! Takes matching letters out of their queue, one after the other: sends them back first, or not.

use std::time::Instant;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tasker_aws::{DeadLetter, QueueAdmin, queue_of_dead_letters};

use super::{
    filter::Filter,
    letter::Summary,
    pace::Pace,
    report::{Item, Outcome, Report},
    scan::{Known, Scan},
};
use crate::{deployment::failure, error::Result};

/// Letters that are worked on at once; as many as one receive gives.
const AT_ONCE: usize = 10;

/// What is done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Sent to the queue that it died in, and then deleted.
    Redrive,
    /// Deleted.
    Purge,
}

/// One run over several queues.
pub struct Work<'a> {
    /// Speaks to SQS.
    pub depot: &'a QueueAdmin,
    /// Which letters.
    pub filter: &'a Filter,
    /// What to do with them.
    pub deed: Deed,
    /// How fast.
    pub pace: Pace,
    /// With how many more.
    pub left: usize,
}

impl Work<'_> {
    /// Does it to the letters of these queues. What is reported when it fails was done.
    pub async fn run(mut self, queues: &[String], report: &mut Report) -> Result {
        let mut known = Known::default();
        for queue in queues {
            let mut scan = Scan::new(self.depot, queue);
            let worked = self.walk(&mut scan, queue, &mut known, report).await;
            scan.end().await;
            worked?;
        }
        Ok(())
    }

    async fn walk(&mut self, scan: &mut Scan<'_>, queue: &str, known: &mut Known, report: &mut Report) -> Result {
        while !report.rest.more {
            let fresh = scan.next(known).await.map_err(|error| failure(&format!("look into {queue}"), &error))?;
            if fresh.is_empty() {
                break;
            }
            let now = Timestamp::now();
            let summarized = fresh.into_iter().map(|letter| (Summary::of(queue, &letter, now), letter));
            let (mut meant, others): (Vec<_>, Vec<_>) = summarized.partition(|(summary, _)| self.filter.takes(summary));
            others.iter().for_each(|(_, letter)| scan.keep(letter));
            if meant.len() > self.left {
                report.rest.more = true;
                meant.drain(self.left..).for_each(|(_, letter)| scan.keep(&letter));
            }
            self.left -= meant.len();
            let (depot, deed) = (self.depot, self.deed);
            let timed: Vec<_> = meant.into_iter().map(|each| (self.pace.slot(Instant::now()), each)).collect();
            let mut settled = stream::iter(timed)
                .map(|(slot, (summary, letter))| async move {
                    tokio::time::sleep_until(slot.into()).await;
                    let outcome = settle(depot, queue, deed, &letter).await;
                    (letter, Item { letter: summary, outcome })
                })
                .buffered(AT_ONCE);
            while let Some((letter, item)) = settled.next().await {
                match &item.outcome {
                    Outcome::Redriven { new_message_id, .. } => known.add(&letter, new_message_id.clone()),
                    Outcome::Deleted => {}
                    Outcome::Kept { .. } => scan.keep(&letter),
                }
                report.add(item)?;
            }
        }
        report.rest.cut_short |= scan.is_cut();
        Ok(())
    }
}

/// A letter is deleted only once its copy was accepted: who stops in between leaves it twice, and nothing is lost.
async fn settle(depot: &QueueAdmin, queue: &str, deed: Deed, letter: &DeadLetter) -> Outcome {
    let sent = match (deed, queue_of_dead_letters(queue)) {
        (Deed::Redrive, Some(back)) => match depot.send(back, letter).await {
            Ok(id) => Some(id),
            Err(error) => return Outcome::Kept { why: error.to_string() },
        },
        _ => None,
    };
    let deleted = depot.delete(queue, letter).await;
    match (sent, deleted) {
        (Some(new_message_id), deleted) => Outcome::Redriven { new_message_id, also_kept: deleted.err().map(|e| e.to_string()) },
        (None, Ok(())) => Outcome::Deleted,
        (None, Err(error)) => Outcome::Kept { why: error.to_string() },
    }
}
