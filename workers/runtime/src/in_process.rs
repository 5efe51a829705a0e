//! Runs steps by a function of this process: each in a task of its own, so that a panic or an abort stays there.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tasker_process::panic_text;
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tokio::time::Instant;

use crate::{
    Gate,
    executor::{Beat, Ends, Report},
};

/// Serves until no more steps can come; what runs then is aborted.
pub(crate) async fn serve<F, Fut>(call: F, gate: Gate, mut ends: Ends)
where
    F: Fn(Arc<RunStep>, Beat) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    let call = Arc::new(call);
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            step = ends.steps.recv() => {
                let Some(step) = step else { return };
                if let Some(outcome) = gate.refusal(&step) {
                    if ends.reports.send(Report { step, outcome, execution_time_ms: 0 }).await.is_err() {
                        return;
                    }
                    continue;
                }
                if step.report_start {
                    let started = Report { step: step.clone(), outcome: Outcome::Started {}, execution_time_ms: 0 };
                    if ends.reports.send(started).await.is_err() {
                        return;
                    }
                }
                let beat = Beat::new(step.clone(), ends.reports.clone());
                let call = call.clone();
                // Called inside the task, so that a panic before its first await stays there too.
                running.push(watch(step.clone(), async move { call(step, beat).await }));
            }
            Some(report) = running.next() => {
                if ends.reports.send(report).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits for one handler, at most as long as its step allows.
async fn watch(step: Arc<RunStep>, handler: impl Future<Output = Outcome> + Send + 'static) -> Report {
    let began = Instant::now();
    let mut task = AbortOnDrop(tokio::spawn(handler));
    let outcome = match tokio::time::timeout(Duration::from_secs(step.timeout_seconds.into()), &mut task.0).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(end)) => {
            let panic = end.try_into_panic();
            let text = panic.as_deref().map_or("its task was aborted", panic_text);
            Outcome::Failure(Failure::retryable("handler_panicked", format!("the handler panicked: {text}")))
        }
        Err(_) => timed_out(&step),
    };
    Report { step, outcome, execution_time_ms: began.elapsed().as_millis() as u64 }
}

/// The failure of a step that ran for too long.
pub(crate) fn timed_out(step: &RunStep) -> Outcome {
    let message = format!("the handler ran longer than its timeout_seconds ({})", step.timeout_seconds);
    Outcome::Failure(Failure::retryable("timeout", message))
}

/// A task that does not outlive whoever waits for it.
struct AbortOnDrop(tokio::task::JoinHandle<Outcome>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
