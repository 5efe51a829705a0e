//! A redrive that SQS itself does: it moves a whole dead-letter queue, and is asked until it is done. It goes on when nobody asks.

use std::time::Duration;

use serde_json::json;
use tasker_aws::{CallError, Move, QueueAdmin, queue_of_dead_letters};
use tokio::time::{Instant, sleep};

use crate::{
    deployment::failure,
    error::{CommandError, Exit, Result},
    output::{self, Format},
};

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(500);
/// A move that shows no progress for so long is left alone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A move that has begun.
pub struct Moving<'a> {
    depot: &'a QueueAdmin,
    queue: &'a str,
    back: &'a str,
    arn: String,
    /// When the last one before it began, in milliseconds since 1970.
    last_before: Option<i64>,
}

/// Has SQS move all letters of a queue to the one they died in, at most so many a second.
pub async fn start<'a>(depot: &'a QueueAdmin, queue: &'a str, per_second: u32) -> std::result::Result<Moving<'a>, CallError> {
    let back = queue_of_dead_letters(queue).unwrap_or(queue);
    let (arn, back_arn) = (depot.facts(queue).await?.arn, depot.facts(back).await?.arn);
    let last_before = depot.moves(&arn).await?.first().map(|last| last.started_ms);
    depot.start_move(&arn, &back_arn, per_second).await?;
    Ok(Moving { depot, queue, back, arn, last_before })
}

impl Moving<'_> {
    /// Waits until it is done, and tells how many letters were moved.
    pub async fn finish(self, format: Format) -> Result {
        if format == Format::Table {
            output::print("mechanism: move (StartMessageMoveTask)")?;
        }
        let (mut moved, mut since) = (0, Instant::now());
        loop {
            let now = self.look().await?;
            if let Some(end) = now.as_ref().filter(|now| !matches!(now.status.as_str(), "RUNNING" | "CANCELLING")) {
                return self.tell(end, format);
            }
            let progress = now.map_or(moved, |now| now.moved);
            if progress != moved {
                (moved, since) = (progress, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                let what = format!("the move of {} shows no progress after {moved} letters; it goes on by itself", self.queue);
                return Err(CommandError::new(Exit::TimedOut, what));
            }
            sleep(LOOK).await;
        }
    }

    /// SQS does not name a move that has ended, but tells when it began.
    async fn look(&self) -> Result<Option<Move>> {
        let moves = self.depot.moves(&self.arn).await;
        let moves = moves.map_err(|error| failure(&format!("ask about the move of {}", self.queue), &error))?;
        Ok(moves.into_iter().find(|one| self.last_before.is_none_or(|last| one.started_ms > last)))
    }

    fn tell(&self, end: &Move, format: Format) -> Result {
        let Self { queue, back, .. } = self;
        let Move { status, moved, of, .. } = end;
        match format {
            Format::Json => {
                let shown =
                    json!({"mechanism": "move", "queue": queue, "to": back, "status": status, "redriven": moved, "of": of});
                output::print_json(&shown.to_string())?;
            }
            Format::Table => {
                let plural = if *moved == 1 { "" } else { "s" };
                output::print(&format!("{moved} letter{plural} moved from {queue} to {back}, as SQS counts"))?;
            }
        }
        if status == "COMPLETED" {
            return Ok(());
        }
        let why = end.failure.as_deref().unwrap_or("SQS gives no reason");
        Err(CommandError::new(Exit::Error, format!("the move of {queue} ended as {status}: {why}")))
    }
}
