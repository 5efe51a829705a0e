//! The loop of a worker: receive as many steps as there are free places, run them, send their outcomes, and settle a delivery once
//! the queue accepted its outcome. A step keeps its place until then or until it goes to quarantine, whose size is bounded, so
//! nothing here grows with the number of steps that wait.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tasker_queue::{Delivery, Disposition, Queue, Receipt, Source, refuse};
use tasker_wire::{CompleteStep, RunStep, message::Lease};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Executor, Settings, executor::Report, outbox::Outbox};

/// Calls that settle or extend deliveries; when so many are under way nothing more is received.
const CALLS: usize = 16;
/// Deliveries are extended so often within their visibility: when one call fails there is another chance.
const EXTENSIONS: u32 = 3;

/// What a worker did from its start to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps whose outcome the queue accepted.
    pub answered: u64,
    /// Steps that were received and not answered when the drain time was over. They used no attempt and run again.
    pub abandoned: u64,
}

/// Runs steps until the source has no more, or until `shutdown`.
///
/// When the source has no more, it waits for all that run. On `shutdown` it receives nothing more and waits `drain_timeout` for
/// those that run. Then the executor is closed, so no child process is left, and what was not answered is given back to the source.
/// Dropping the future kills the child too.
pub async fn run<S, Q>(
    source: Arc<S>,
    queue: Arc<Q>,
    executor: Executor,
    settings: Settings,
    shutdown: CancellationToken,
) -> Stats
where
    S: Source<Message = RunStep>,
    Q: Queue,
{
    let mut worker = Worker {
        source,
        outbox: Outbox::new(queue),
        executor,
        settings,
        held: Vec::new(),
        receiving: None,
        calls: FuturesUnordered::new(),
        answered: 0,
    };
    worker.work(&shutdown).await;
    worker.close().await
}

struct Worker<S, Q> {
    source: Arc<S>,
    outbox: Outbox<Q>,
    executor: Executor,
    settings: Settings,
    held: Vec<Held>,
    /// The receive under way. It is not dropped to begin another one: a call that is cut off may have taken messages.
    receiving: Option<BoxFuture<'static, Vec<Delivery<RunStep>>>>,
    /// Calls to the source that settle or extend.
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
    answered: u64,
}

/// A delivery whose outcome was not accepted yet. A source may deliver a lease more than once: then each delivery runs.
struct Held {
    lease: Lease,
    step_name: String,
    receipt: Receipt,
}

impl<S: Source<Message = RunStep>, Q: Queue> Worker<S, Q> {
    async fn work(&mut self, shutdown: &CancellationToken) {
        let mut open = true;
        let mut give_up: Option<Instant> = None;
        let mut extend_at = self.next_extension();
        let mut reports = Vec::new();
        while open || !self.held.is_empty() {
            if open {
                self.begin_to_receive();
            }
            tokio::select! {
                count = self.executor.reports.recv_many(&mut reports, 256) => {
                    if count == 0 {
                        // Only a fault of ours ends an executor while its steps' end is open.
                        tracing::error!(pool = self.settings.pool, "the executor ended by itself");
                        return;
                    }
                    reports.drain(..).for_each(|report| self.note(report));
                }
                accepted = self.outbox.deliver() => self.accept(accepted),
                deliveries = next(&mut self.receiving) => {
                    self.receiving = None;
                    open = !deliveries.is_empty();
                    self.take(deliveries);
                }
                Ok(()) = self.executor.capacity.changed(), if open => {}
                Some(()) = self.calls.next() => {}
                () = sleep_until(extend_at) => {
                    self.extend();
                    extend_at = self.next_extension();
                }
                () = shutdown.cancelled(), if give_up.is_none() => {
                    open = false;
                    give_up = Some(Instant::now() + self.settings.drain_timeout);
                    self.stop_receiving();
                }
                () = sleep_until(give_up) => return,
            }
        }
    }

    async fn close(self) -> Stats {
        let Self { source, executor, settings, held, mut calls, answered, .. } = self;
        executor.close().await;
        let abandoned = held.len() as u64;
        if abandoned > 0 {
            let pool = settings.pool;
            tracing::warn!(pool, abandoned, "the drain time is over; the steps that still ran will run again");
            let receipts: Vec<Receipt> = held.into_iter().map(|held| held.receipt).collect();
            source.extend(&receipts, Duration::ZERO).await;
        }
        while calls.next().await.is_some() {}
        Stats { answered, abandoned }
    }

    fn begin_to_receive(&mut self) {
        let free = self.free();
        if self.receiving.is_none() && free > 0 && self.calls.len() < CALLS {
            let source = self.source.clone();
            self.receiving = Some(async move { source.receive(free).await }.boxed());
        }
    }

    fn free(&self) -> usize {
        let places = self.settings.max_concurrent_handlers.max(1);
        self.executor.capacity.borrow().steps(places).saturating_sub(self.held.len())
    }

    /// After this nothing more is received. A source that lends deliveries for a time ends the receive under way; what that still
    /// brings is given back at once, beside the steps that run.
    fn stop_receiving(&mut self) {
        let receiving = self.receiving.take().filter(|_| self.settings.visibility.is_some());
        if let Some(receiving) = receiving {
            let source = self.source.clone();
            self.calls.push(Box::pin(async move {
                let receipts: Vec<Receipt> = receiving.await.into_iter().map(|delivery| delivery.receipt).collect();
                source.extend(&receipts, Duration::ZERO).await;
            }));
        }
        // The log says why a worker that was stopped is still there.
        if !self.held.is_empty() {
            let (pool, seconds) = (&self.settings.pool, self.settings.drain_timeout.as_secs_f32());
            tracing::info!(pool, "waiting at most {seconds} s for {} running steps", self.held.len());
        }
    }

    fn take(&mut self, deliveries: Vec<Delivery<RunStep>>) {
        let mut unreadable = Vec::new();
        for Delivery { message, receipt } in deliveries {
            match message {
                Ok(step) => {
                    self.held.push(Held { lease: step.lease(), step_name: step.step_name.clone(), receipt });
                    // The channel has as many places as there are for new steps, and one is free for this step.
                    if let Err(refused) = self.executor.steps.try_send(Arc::new(step)) {
                        tracing::error!(pool = self.settings.pool, "the executor took no step: {refused}");
                    }
                }
                Err(why) => unreadable.push(refuse(receipt, why)),
            }
        }
        self.settle(unreadable);
    }

    fn note(&mut self, report: Report) {
        let answer = report.is_answer();
        let message: CompleteStep = report.step.complete(report.outcome, &self.settings.worker, report.execution_time_ms);
        if answer { self.outbox.put_answer(message) } else { self.outbox.put_report(message) }
    }

    /// The outcomes are safe: their deliveries leave the source.
    fn accept(&mut self, outcomes: Vec<Arc<CompleteStep>>) {
        let mut settled = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let Some(at) = self.held.iter().position(|held| held.lease == outcome.lease()) else { continue };
            let Held { step_name, receipt, .. } = self.held.swap_remove(at);
            // First, for once its delivery is settled a function may be frozen.
            if self.settings.log_answers {
                log_answer(&step_name, &outcome);
            }
            settled.push((receipt, Disposition::Done));
        }
        self.answered += settled.len() as u64;
        self.settle(settled);
    }

    fn settle(&mut self, settled: Vec<(Receipt, Disposition)>) {
        if !settled.is_empty() {
            let source = self.source.clone();
            self.calls.push(Box::pin(async move { source.settle(settled).await }));
        }
    }

    fn next_extension(&self) -> Option<Instant> {
        let visibility = self.settings.visibility?;
        Some(Instant::now() + (visibility / EXTENSIONS).max(Duration::from_millis(100)))
    }

    fn extend(&mut self) {
        let receipts: Vec<Receipt> = self.held.iter().map(|held| held.receipt.clone()).collect();
        let Some(visibility) = self.settings.visibility.filter(|_| !receipts.is_empty()) else { return };
        let source = self.source.clone();
        self.calls.push(Box::pin(async move { source.extend(&receipts, visibility).await }));
    }
}

fn log_answer(step: &str, complete: &CompleteStep) {
    let CompleteStep { attempt, execution_time_ms: duration_ms, .. } = complete;
    let task_id = complete.task_id.to_string();
    let outcome = complete.outcome.kind();
    let correlation_id = complete.correlation_id.map(|id| id.to_string());
    let trace_id = complete.traceparent.as_deref().and_then(tasker_aws::trace_id);
    tracing::info!(task_id, step, attempt, outcome, correlation_id, trace_id, duration_ms, "step answered");
}

async fn next<T>(under_way: &mut Option<BoxFuture<'static, T>>) -> T {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
