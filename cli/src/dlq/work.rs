//! Redrives or deletes the matching dead letters, one after the other.

use std::{pin::pin, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tasker_aws::{QueueAdmin, SqsMessage, queue_of_dead_letters};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{
    dead_letter::DeadLetter,
    filter::Filter,
    report::{DeadLetterOutcome, HandledDeadLetter, RunReport},
    scan::{Scan, Seen},
};
use crate::error::Result;

/// Dead letters that are handled concurrently: as many as one receive returns.
const CONCURRENT: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send to the original queue, then delete.
    Redrive,
    Purge,
}

pub struct Run<'a> {
    pub admin: &'a QueueAdmin,
    pub filter: &'a Filter,
    pub action: Action,
    pub pace: Interval,
    /// How many more dead letters may be handled.
    pub left: usize,
}

impl Run<'_> {
    /// Handles the matching dead letters of these queues. If it fails, the report has all that are already handled.
    pub async fn handle(mut self, queues: &[String], report: &mut RunReport) -> Result {
        let mut seen = Seen::default();
        for queue in queues {
            let mut scan = Scan::new(self.admin, queue);
            let handled = self.handle_queue(&mut scan, queue, &mut seen, report).await;
            scan.end().await;
            handled?;
        }
        Ok(())
    }

    async fn handle_queue(&mut self, scan: &mut Scan<'_>, queue: &str, seen: &mut Seen, report: &mut RunReport) -> Result {
        while !report.remaining.more {
            let fresh = scan.next(seen).await?;
            if fresh.is_empty() {
                break;
            }
            let now = Timestamp::now();
            let described = fresh.into_iter().map(|message| (DeadLetter::new(queue, &message, now), message));
            let (mut matching, others): (Vec<_>, Vec<_>) =
                described.partition(|(dead_letter, _)| self.filter.matches(dead_letter));
            others.iter().for_each(|(_, message)| scan.keep(message));
            if matching.len() > self.left {
                report.remaining.more = true;
                matching.drain(self.left..).for_each(|(_, message)| scan.keep(&message));
            }
            self.left -= matching.len();
            let (admin, action) = (self.admin, self.action);
            let ticks = stream::unfold(&mut self.pace, |pace| async {
                pace.tick().await;
                Some(((), pace))
            });
            let handled = stream::iter(matching).zip(ticks).map(|((dead_letter, message), ())| async move {
                let outcome = apply(admin, queue, action, &message).await;
                (message, HandledDeadLetter { dead_letter, outcome })
            });
            let mut handled = pin!(handled.buffered(CONCURRENT));
            while let Some((message, item)) = handled.next().await {
                match &item.outcome {
                    DeadLetterOutcome::Redriven { new_message_id, .. } => seen.add_sent(&message, new_message_id.clone()),
                    DeadLetterOutcome::Deleted => {}
                    DeadLetterOutcome::Kept { .. } => scan.keep(&message),
                }
                report.add(item)?;
            }
        }
        report.remaining.cut_short |= scan.is_cut();
        Ok(())
    }
}

/// Evenly spread ticks. After a pause there is no burst.
pub fn pace(per_second: u32) -> Interval {
    let mut pace = interval(Duration::from_secs(1) / per_second.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Deletes a dead letter only after its copy was accepted: an interruption in between leaves two, and loses none.
async fn apply(admin: &QueueAdmin, queue: &str, action: Action, message: &SqsMessage) -> DeadLetterOutcome {
    let sent = match (action, queue_of_dead_letters(queue)) {
        (Action::Redrive, Some(back)) => match admin.send(back, message).await {
            Ok(id) => Some(id),
            Err(error) => return DeadLetterOutcome::Kept { why: error.to_string() },
        },
        _ => None,
    };
    let deleted = admin.delete(queue, message).await;
    match (sent, deleted) {
        (Some(new_message_id), deleted) => {
            DeadLetterOutcome::Redriven { new_message_id, also_kept: deleted.err().map(|e| e.to_string()) }
        }
        (None, Ok(())) => DeadLetterOutcome::Deleted,
        (None, Err(error)) => DeadLetterOutcome::Kept { why: error.to_string() },
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
