//! Waits for a task by long polls, with progress on a terminal. Tolerates short outages of the server.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tasker_process::Stream;
use tasker_wire::{
    StepState, TaskState, limits,
    rest::{StepReadiness, TaskResponse},
};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::path;
use crate::{
    client::{ApiResponse, Client},
    error::{CommandError, Exit, Result},
    output::shortened,
};

pub const INDEFINITELY: &str = "indefinitely";
/// How long an outage of the server may last: long enough for a restart.
const AWAY: Duration = Duration::from_secs(60);
/// The shortest time between two polls, in case the server responds immediately.
const PAUSE: Duration = Duration::from_millis(500);

/// Reads how long to wait. Indefinitely is [`Duration::MAX`].
pub fn parse_limit(text: &str) -> std::result::Result<Duration, String> {
    if text == INDEFINITELY {
        return Ok(Duration::MAX);
    }
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| "expected a number of seconds".into())
}

/// Waits until a task is finished, and returns the last response.
pub async fn until_finished(task: Uuid, limit: Duration, client: &Client) -> Result<ApiResponse> {
    let progress = progress();
    let ended = timeout(limit, poll(task, client, &progress)).await;
    progress.finish_and_clear();
    ended.unwrap_or_else(|_| Err(too_late(task, limit)))
}

fn too_late(task: Uuid, limit: Duration) -> CommandError {
    let message =
        format!("task {task} was not finished after {} s and continues: tasker-ctl task get {task}", limit.as_secs_f64());
    CommandError::new(Exit::TimedOut, message)
}

/// Polls until the task is finished. Outages are tolerated only once the server has answered.
async fn poll(task: Uuid, client: &Client, progress: &ProgressBar) -> Result<ApiResponse> {
    // A terminal shows progress, so it needs short polls. Other polls take as long as the server allows.
    let hold = if progress.is_hidden() { limits::WAIT_SECONDS } else { 1 };
    let patience = Duration::from_secs(u64::from(hold) + 30);
    let mut seen: Option<Instant> = None;
    loop {
        let asked = Instant::now();
        match client.get_within(&path(task), &[("wait", hold)], patience).await {
            Ok(response) => {
                let now: TaskResponse = response.read()?;
                if now.status.known().is_some_and(TaskState::is_finished) {
                    return Ok(response);
                }
                seen = Some(asked);
                advance(progress, &now);
            }
            Err(failure) if is_passing(&failure) && seen.is_some_and(|seen| seen.elapsed() < AWAY) => {}
            Err(failure) => return Err(failure),
        }
        sleep(PAUSE.saturating_sub(asked.elapsed())).await;
    }
}

fn is_passing(failure: &CommandError) -> bool {
    matches!(failure.exit, Exit::Unavailable | Exit::TimedOut)
}

/// The exit code for the final state of a task.
pub fn verdict(task: &TaskResponse) -> Result {
    match task.status.known() {
        Some(TaskState::Complete | TaskState::ResolvedManually) => Ok(()),
        _ => Err(CommandError::new(Exit::TaskFailed, format!("task {} ended as {}", task.task_uuid, task.status))),
    }
}

/// A progress line on stderr, if that is a terminal that can redraw it.
fn progress() -> ProgressBar {
    if !Stream::Stderr.takes_styles() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:24} {pos}/{len} steps  {elapsed}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let progress = ProgressBar::new(0).with_style(style);
    if !progress.is_hidden() {
        progress.enable_steady_tick(Duration::from_millis(250));
    }
    progress
}

fn advance(progress: &ProgressBar, task: &TaskResponse) {
    use StepState::{Enqueued, InProgress, WaitingForRetry};
    let active = |step: &&StepReadiness| matches!(step.current_state.known(), Some(Enqueued | InProgress | WaitingForRetry));
    let names: Vec<&str> = task.steps.iter().filter(active).take(5).map(|step| step.name.as_str()).collect();
    progress.set_length(task.total_steps.max(0) as u64);
    progress.set_position(task.completed_steps.max(0) as u64);
    progress.set_message(shortened(&names.join(", "), 60));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_of_seconds_or_none() {
        assert_eq!(parse_limit("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_limit(INDEFINITELY), Ok(Duration::MAX));
        for bad in ["", "-1", "soon", "NaN", "1e300"] {
            assert!(parse_limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_failed_or_cancelled_task_fails_the_wait() {
        let end = |status: TaskState| {
            verdict(&TaskResponse { status: status.into(), ..TaskResponse::default() }).map_err(|failure| failure.exit)
        };
        assert_eq!(end(TaskState::Complete), Ok(()));
        assert_eq!(end(TaskState::ResolvedManually), Ok(()));
        assert_eq!(end(TaskState::Error), Err(Exit::TaskFailed));
        assert_eq!(end(TaskState::Cancelled), Err(Exit::TaskFailed));
    }
}
