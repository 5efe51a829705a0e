//! A redrive by SQS itself, which moves a whole dead-letter queue. This command polls it; it continues without polling.

use std::time::Duration;

use serde_json::json;
use tasker_aws::{CallError, Move, QueueAdmin, queue_of_dead_letters};
use tokio::time::{Instant, sleep};

use crate::{
    deployment::failure,
    error::{CommandError, Exit, Result},
    output::{self, Format, counted},
};

/// The pause between two polls.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a move may make no progress before this command stops polling.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Moving<'a> {
    admin: &'a QueueAdmin,
    queue: &'a str,
    back: &'a str,
    arn: String,
    /// When the previous move started, in milliseconds since 1970.
    last_before: Option<i64>,
}

/// Lets SQS move all dead letters of a queue to their original queue.
pub async fn start<'a>(admin: &'a QueueAdmin, queue: &'a str, per_second: u32) -> std::result::Result<Moving<'a>, CallError> {
    let back = queue_of_dead_letters(queue).unwrap_or(queue);
    let (arn, back_arn) = (admin.facts(queue).await?.arn, admin.facts(back).await?.arn);
    let last_before = admin.moves(&arn).await?.first().map(|last| last.started_ms);
    admin.start_move(&arn, &back_arn, per_second).await?;
    Ok(Moving { admin, queue, back, arn, last_before })
}

impl Moving<'_> {
    /// Waits for the end, and prints the number of moved dead letters.
    pub async fn finish(self, format: Format) -> Result {
        let Self { queue, back, .. } = &self;
        output::announce(&json!({"mechanism": "move", "queue": queue, "to": back}), format, || {
            format!("SQS moves the dead letters of {queue} to {back}, also if this command is stopped")
        });
        if format == Format::Table {
            output::print("mechanism: move (StartMessageMoveTask)")?;
        }
        let (mut moved, mut since) = (0, Instant::now());
        loop {
            let now = self.look().await?;
            if let Some(end) = now.as_ref().filter(|now| !matches!(now.status.as_str(), "RUNNING" | "CANCELLING")) {
                return self.print(end, format);
            }
            let progress = now.map_or(moved, |now| now.moved);
            if progress != moved {
                (moved, since) = (progress, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                let count = counted(moved, "dead letter");
                let what = format!("the move of {} makes no progress after {count}; it continues in SQS", self.queue);
                return Err(CommandError::new(Exit::TimedOut, what));
            }
            sleep(PAUSE).await;
        }
    }

    /// The state of this move. SQS gives a finished move no id, so its start time identifies it.
    async fn look(&self) -> Result<Option<Move>> {
        let moves = self.admin.moves(&self.arn).await;
        let moves = moves.map_err(|error| failure(&format!("ask about the move of {}", self.queue), &error))?;
        Ok(moves.into_iter().find(|one| self.last_before.is_none_or(|last| one.started_ms > last)))
    }

    fn print(&self, Move { status, moved, of, failure, .. }: &Move, format: Format) -> Result {
        let Self { queue, back, .. } = self;
        let document = json!({"mechanism": "move", "queue": queue, "to": back, "status": status, "redriven": moved, "of": of});
        let view = || format!("{} moved from {queue} to {back}, as SQS counts", counted(moved, "dead letter"));
        output::print_document(&document, format, view)?;
        if status == "COMPLETED" {
            return Ok(());
        }
        let why = failure.as_deref().unwrap_or("SQS gives no reason");
        Err(CommandError::new(Exit::Error, format!("the move of {queue} ended as {status}: {why}")))
    }
}
