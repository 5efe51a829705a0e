//! The loop of a worker: receives as many steps as there are free places, runs them, sends their outcomes, and settles a delivery once
//! its outcome is accepted. A step keeps its place until then, or until it is set aside, of which the number is bounded. So memory does
//! not grow with the number of waiting steps.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use tasker_queue::{Delivery, Disposition, Queue, Receipt, Source, refuse};
use tasker_wire::{
    CompleteStep, Outcome, RunStep,
    message::{self, Lease},
};
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Executor, WorkerSettings,
    executor::Report,
    outbox::Outbox,
    pause::{Awake, postponed},
};

/// Concurrent calls that settle or extend deliveries. At this number nothing more is received.
const CALLS: usize = 16;
/// How often deliveries are extended within their visibility timeout, so that one failed call does no harm.
const EXTENSIONS: u32 = 3;

/// What a worker did in its lifetime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Steps whose outcome the queue accepted.
    pub answered: u64,
    /// Steps without an outcome when the drain timeout ended. They used no attempt and run again.
    pub abandoned: u64,
}

/// Runs steps until the source has no more, or until `shutdown`.
///
/// When the source has no more, this waits for all running steps. On `shutdown` it receives nothing more and waits `drain_timeout` for
/// running steps. Then it closes the executor, so no child process is left, and returns unanswered deliveries to the source. Dropping
/// the future kills the child too.
pub async fn run<S, Q>(
    source: Arc<S>,
    queue: Arc<Q>,
    executor: Executor,
    settings: WorkerSettings,
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
        unwanted: None,
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
    settings: WorkerSettings,
    held: Vec<Held>,
    /// The current receive. It is never cancelled to start another one, because a cancelled call may have received messages.
    receiving: Option<BoxFuture<'static, Vec<Delivery<RunStep>>>>,
    /// The current wait for deliveries that are no longer wanted.
    unwanted: Option<BoxFuture<'static, Vec<Receipt>>>,
    /// Current calls to the source that settle or extend.
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
    answered: u64,
}

/// A delivery whose outcome is not accepted yet. If a source delivers a lease more than once, each delivery runs.
struct Held {
    lease: Lease,
    step_name: String,
    receipt: Receipt,
    /// While the executor has the step, in whatever place, it has this.
    step: Weak<RunStep>,
    /// Whether the executor has answered it.
    answered: bool,
}

impl<S: Source<Message = RunStep>, Q: Queue> Worker<S, Q> {
    async fn work(&mut self, shutdown: &CancellationToken) {
        let mut open = true;
        let mut draining: Option<Draining> = None;
        let mut extend_at = self.next_extension();
        let interval = self.settings.look_for_lost;
        let mut look_for_lost = interval_at(Instant::now() + interval, interval);
        let mut reports = Vec::new();
        while open || !self.held.is_empty() {
            if open {
                self.begin_to_receive();
            }
            let source = &self.source;
            let unwanted = self.unwanted.get_or_insert_with(|| {
                let source = source.clone();
                async move { source.unwanted().await }.boxed()
            });
            tokio::select! {
                count = self.executor.reports.recv_many(&mut reports, 256) => {
                    if count == 0 {
                        // Only a bug ends an executor whose channel of steps is open.
                        tracing::error!(pool = self.settings.pool, "the executor ended unexpectedly");
                        return;
                    }
                    reports.drain(..).for_each(|report| self.report(report));
                }
                _ = look_for_lost.tick() => self.look_for_lost(),
                accepted = self.outbox.deliver() => self.accept(accepted),
                Some(deliveries) = OptionFuture::from(self.receiving.as_mut()) => {
                    self.receiving = None;
                    open = !deliveries.is_empty();
                    self.take(deliveries);
                }
                receipts = unwanted => {
                    self.unwanted = None;
                    self.stop(&receipts);
                }
                Ok(()) = self.executor.capacity.changed(), if open => {}
                Some(()) = self.calls.next() => {}
                Some(()) = OptionFuture::from(extend_at.map(sleep_until)) => {
                    self.extend();
                    extend_at = self.next_extension();
                }
                () = shutdown.cancelled(), if draining.is_none() => {
                    open = false;
                    draining = Some(Draining::begin(self.settings.drain_timeout));
                    self.stop_receiving();
                }
                Some(is_over) = OptionFuture::from(draining.as_mut().map(Draining::is_over)) => if is_over {
                    return;
                },
            }
        }
    }

    async fn close(self) -> Stats {
        let Self { source, executor, settings, held, mut calls, answered, .. } = self;
        executor.close().await;
        let abandoned = held.len() as u64;
        if abandoned > 0 {
            let pool = settings.pool;
            tracing::warn!(pool, abandoned, "the drain timeout is over; the steps that were still running run again");
            let receipts: Vec<Receipt> = held.into_iter().map(|held| held.receipt).collect();
            source.extend(&receipts, Duration::ZERO).await;
        }
        while calls.next().await.is_some() {}
        Stats { answered, abandoned }
    }

    fn begin_to_receive(&mut self) {
        let places = self.settings.max_concurrent_handlers.max(1);
        let free = self.executor.capacity.borrow().steps(places).saturating_sub(self.held.len());
        if self.receiving.is_none() && free > 0 && self.calls.len() < CALLS {
            let source = self.source.clone();
            self.receiving = Some(async move { source.receive(free).await }.boxed());
        }
    }

    /// Receives nothing more. A source with a visibility timeout still ends the current receive; the deliveries that it brings are
    /// returned immediately, while steps run.
    fn stop_receiving(&mut self) {
        let receiving = self.receiving.take().filter(|_| self.settings.visibility.is_some());
        if let Some(receiving) = receiving {
            let source = self.source.clone();
            self.calls.push(Box::pin(async move {
                let receipts: Vec<Receipt> = receiving.await.into_iter().map(|delivery| delivery.receipt).collect();
                source.extend(&receipts, Duration::ZERO).await;
            }));
        }
        // The log explains why a stopping worker is still running.
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
                    let (lease, step_name, step) = (step.lease(), step.step_name.clone(), Arc::new(step));
                    self.held.push(Held { lease, step_name, receipt, step: Arc::downgrade(&step), answered: false });
                    // The channel has a place for every new step, so one is free for this step.
                    if let Err(refused) = self.executor.steps.try_send(step) {
                        tracing::error!(pool = self.settings.pool, "the executor refused a step: {refused}");
                    }
                }
                Err(why) => unreadable.push(refuse(receipt, why)),
            }
        }
        self.settle(unreadable);
    }

    fn report(&mut self, Report { step, outcome, execution_time_ms }: Report) {
        if !matches!(outcome, Outcome::Started {} | Outcome::Heartbeat {}) {
            let answered = self.held.iter_mut().find(|held| !held.answered && held.lease == step.lease());
            answered.into_iter().for_each(|held| held.answered = true);
        }
        self.outbox.put(step.complete(outcome, &self.settings.worker, execution_time_ms));
    }

    /// Returns steps that nobody has and nobody answered, which only a defect of the executor or of a child can cause. The executor drops
    /// a step that its child says it no longer has. A child that does not say so keeps the step until its timeout.
    fn look_for_lost(&mut self) {
        let is_lost = |held: &mut Held| !held.answered && held.step.strong_count() == 0;
        let lost: Vec<Held> = self.held.extract_if(.., is_lost).collect();
        if lost.is_empty() {
            return;
        }
        for Held { lease: Lease { step, number: lease }, step_name, .. } in &lost {
            let pool = &self.settings.pool;
            tracing::error!(pool, task_id = %step.task, step = step_name, lease, "this worker lost a step; it is delivered again");
        }
        let receipts: Vec<Receipt> = lost.into_iter().map(|held| held.receipt).collect();
        let source = self.source.clone();
        self.calls.push(Box::pin(async move { source.lost(&receipts).await }));
    }

    /// Stops steps whose outcomes are no longer needed. Their deliveries are settled once the steps have ended.
    fn stop(&self, receipts: &[Receipt]) {
        let unwanted = self.held.iter().filter(|held| receipts.contains(&held.receipt));
        unwanted.for_each(|held| self.executor.stop(held.lease));
    }

    /// Settles the deliveries of accepted outcomes.
    fn accept(&mut self, outcomes: Vec<Arc<CompleteStep>>) {
        let mut settled = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let Some(at) = self.held.iter().position(|held| held.lease == outcome.lease()) else { continue };
            let Held { lease, step_name, receipt, .. } = self.held.swap_remove(at);
            self.executor.is_answered(lease);
            // Before settling, because a function may be frozen once its deliveries are settled.
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

/// The time that running steps have after a shutdown began.
struct Draining {
    ends: Instant,
    awake: Awake,
}

impl Draining {
    fn begin(drain_timeout: Duration) -> Self {
        let now = Instant::now();
        Self { ends: now + drain_timeout, awake: Awake::since(now) }
    }

    /// Waits for the next look at the time. A pause of this process does not use up the time. Cancel-safe.
    async fn is_over(&mut self) -> bool {
        sleep_until(self.ends.min(self.awake.next_tick())).await;
        let now = Instant::now();
        if let Some(pause) = self.awake.pause(now) {
            self.ends = postponed(self.ends, pause, now);
        }
        self.ends <= now
    }
}

fn log_answer(step: &str, complete: &CompleteStep) {
    let CompleteStep { attempt, execution_time_ms: duration_ms, .. } = complete;
    let task_id = complete.task_id.to_string();
    let outcome = complete.outcome.kind();
    let correlation_id = complete.correlation_id.map(|id| id.to_string());
    let trace_id = complete.traceparent.as_deref().and_then(message::trace_id);
    tracing::info!(task_id, step, attempt, outcome, correlation_id, trace_id, duration_ms, "step answered");
}
