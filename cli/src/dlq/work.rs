//! Takes matching letters out of their queue, one after the other: sends them back first, or not.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tasker_aws::{QueueAdmin, SqsMessage, queue_of_dead_letters};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    filter::Filter,
    letter::Summary,
    report::{Item, LetterOutcome, Report},
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
    pub pace: Interval,
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
            let ticks = stream::unfold(&mut self.pace, |pace| async {
                pace.tick().await;
                Some(((), pace))
            });
            let settled = stream::iter(meant).zip(ticks).map(|((summary, letter), ())| async move {
                let outcome = settle(depot, queue, deed, &letter).await;
                (letter, Item { letter: summary, outcome })
            });
            let mut settled = pin!(settled.buffered(AT_ONCE));
            while let Some((letter, item)) = settled.next().await {
                match &item.outcome {
                    LetterOutcome::Redriven { new_message_id, .. } => known.add(&letter, new_message_id.clone()),
                    LetterOutcome::Deleted => {}
                    LetterOutcome::Kept { .. } => scan.keep(&letter),
                }
                report.add(item)?;
            }
        }
        report.rest.cut_short |= scan.is_cut();
        Ok(())
    }
}

/// So many a second, evenly spread: a pause is not made up for by a burst.
pub fn pace(per_second: u32) -> Interval {
    let mut pace = interval(Duration::from_secs(1) / per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// A letter is deleted only once its copy was accepted: who stops in between leaves it twice, and nothing is lost.
async fn settle(depot: &QueueAdmin, queue: &str, deed: Deed, letter: &SqsMessage) -> LetterOutcome {
    let sent = match (deed, queue_of_dead_letters(queue)) {
        (Deed::Redrive, Some(back)) => match depot.send(back, letter).await {
            Ok(id) => Some(id),
            Err(error) => return LetterOutcome::Kept { why: error.to_string() },
        },
        _ => None,
    };
    let deleted = depot.delete(queue, letter).await;
    match (sent, deleted) {
        (Some(new_message_id), deleted) => {
            LetterOutcome::Redriven { new_message_id, also_kept: deleted.err().map(|e| e.to_string()) }
        }
        (None, Ok(())) => LetterOutcome::Deleted,
        (None, Err(error)) => LetterOutcome::Kept { why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fifty_a_second_are_twenty_milliseconds_apart_also_after_a_pause() {
        let (mut pace, begin) = (pace(50), Instant::now());
        let mut ticks = Vec::new();
        for pause_ms in [0, 0, 0, 460, 0] {
            sleep(Duration::from_millis(pause_ms)).await;
            pace.tick().await;
            ticks.push(begin.elapsed().as_millis());
        }
        assert_eq!(ticks, [0, 20, 40, 500, 520]);
    }
}
