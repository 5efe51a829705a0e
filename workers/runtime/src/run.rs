//! The loop of a worker: take as many steps as there are free places, run them, send what came of them. A step keeps its
//! place until the queue accepted its outcome or its process died of somebody, and few can be in the second case, so nothing
//! here grows with the number of steps that wait.

use std::sync::Arc;

use tasker_queue::Queue;
use tasker_wire::{CompleteStep, RunStep};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Executor, Settings, executor::Report, outbox::Outbox};

/// Where steps come from.
pub trait Deliveries: Send + Sync + 'static {
    /// Waits until there is at least one step, and takes at most `max`. Empty: there will be no more.
    ///
    /// Cancel-safe: when the future is dropped before it is ready, no step is lost.
    fn receive(&self, max: usize) -> impl Future<Output = Vec<RunStep>> + Send;
}

/// What a worker did in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps whose outcome the queue accepted.
    pub answered: u64,
    /// Steps that were taken and not answered when the drain time was over. They used no attempt and run again.
    pub abandoned: u64,
}

/// Runs steps until there are no more, or until `shutdown`.
///
/// When there are no more, it waits for all that run. On `shutdown` it takes no more and waits `drain_timeout` for those that
/// run. Then the executor is closed; a child process is gone when this returns. Dropping the future kills the child too.
pub async fn run<D: Deliveries, Q: Queue>(
    deliveries: Arc<D>,
    queue: Arc<Q>,
    executor: Executor,
    settings: Settings,
    shutdown: CancellationToken,
) -> Stats {
    let mut worker = Worker { deliveries, outbox: Outbox::new(queue), executor, settings, held: 0, tally: Stats::default() };
    worker.work(&shutdown).await;
    let Worker { executor, settings, mut tally, held, .. } = worker;
    executor.close().await;
    tally.abandoned = held as u64;
    if held > 0 {
        tracing::warn!(pool = settings.pool, abandoned = held, "the drain time is over; the steps that still ran will run again");
    }
    tally
}

struct Worker<D, Q> {
    deliveries: Arc<D>,
    outbox: Outbox<Q>,
    executor: Executor,
    settings: Settings,
    /// Steps taken whose outcome was not accepted yet.
    held: usize,
    tally: Stats,
}

impl<D: Deliveries, Q: Queue> Worker<D, Q> {
    async fn work(&mut self, shutdown: &CancellationToken) {
        let mut open = true;
        let mut give_up: Option<Instant> = None;
        let mut reports = Vec::new();
        while open || self.held > 0 {
            let free = self.free();
            tokio::select! {
                count = self.executor.reports.recv_many(&mut reports, 256) => {
                    if count == 0 {
                        // Only a fault of ours ends an executor while its steps' end is open.
                        tracing::error!(pool = self.settings.pool, "the executor ended by itself");
                        return;
                    }
                    reports.drain(..).for_each(|report| self.note(report));
                }
                accepted = self.outbox.deliver() => {
                    self.held -= accepted;
                    self.tally.answered += accepted as u64;
                }
                steps = self.deliveries.receive(free), if open && free > 0 => {
                    open = !steps.is_empty();
                    steps.into_iter().for_each(|step| self.hand_over(step));
                }
                Ok(()) = self.executor.room.changed(), if open => {}
                () = shutdown.cancelled(), if give_up.is_none() => {
                    open = false;
                    give_up = Some(Instant::now() + self.settings.drain_timeout);
                    self.say_what_is_awaited();
                }
                () = sleep_until(give_up), if give_up.is_some() => return,
            }
        }
    }

    /// Whoever stops a worker should not have to guess why it is still there.
    fn say_what_is_awaited(&self) {
        if self.held > 0 {
            let (pool, seconds) = (&self.settings.pool, self.settings.drain_timeout.as_secs_f32());
            tracing::info!(pool, "waiting at most {seconds} s for {} running steps", self.held);
        }
    }

    fn free(&self) -> usize {
        let places = self.settings.max_concurrent_handlers.max(1);
        self.executor.room.borrow().steps(places).saturating_sub(self.held)
    }

    fn hand_over(&mut self, step: RunStep) {
        self.held += 1;
        // There are as many places in the channel as there are for new steps, and one is free for this step.
        if let Err(refused) = self.executor.steps.try_send(Arc::new(step)) {
            tracing::error!(pool = self.settings.pool, "the executor took no step: {refused}");
        }
    }

    fn note(&mut self, report: Report) {
        let answer = report.is_answer();
        let message: CompleteStep = report.step.complete(report.outcome, &self.settings.worker, report.execution_time_ms);
        if answer { self.outbox.put_answer(message) } else { self.outbox.put_report(message) }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
