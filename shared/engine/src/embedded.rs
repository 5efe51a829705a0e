//! The engine as one process: the loops that drain its queue, and what makes a restart go on where the last process stopped.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tasker_queue::{Bodies, Consumer, Disposition, InProcess, Limits, MAX_RECEIVES, Source, Steps, WorkError, consume};
use tasker_store::StoreError;
use tasker_wire::{CompleteStep, Evaluate, Lease, RunStep, limits};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Engine, pause, work::Work};

/// How often time is looked at. Retries come by their own timers; this is for what those lost.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// Loops that apply completions. While one waits for its commit the other gathers the next batch.
const COMPLETERS: usize = 2;
/// Keys of a page of recovery.
const PAGE: i64 = 10_000;

impl Engine<InProcess> {
    /// Takes over a database that no other process works on: what the last one had under way is run again, under the same leases.
    pub async fn take_over(self: &Arc<Self>) -> Result<(), StoreError> {
        self.store().return_started().await?;
        self.recover().await
    }

    /// Drains the queue until `shutdown`; then applies what is still there and returns.
    pub async fn run(self: &Arc<Self>, shutdown: CancellationToken) {
        let mut loops = JoinSet::new();
        for _ in 0..COMPLETERS {
            let completer = Completer { engine: self.clone(), shutdown: shutdown.clone() };
            loops.spawn(drain(self.queue().completions(), completer, shutdown.clone()));
        }
        let evaluator = Evaluator { engine: self.clone(), shutdown: shutdown.clone() };
        loops.spawn(drain(self.queue().wake_ups(), evaluator, shutdown.clone()));
        loops.spawn(self.clone().sweeper(shutdown));
        loops.join_all().await;
    }

    /// The steps of a pool, for its workers.
    pub fn steps(self: &Arc<Self>, pool: &str) -> Steps<Self> {
        self.queue().steps(pool, self.clone())
    }

    /// Sends every dispatch that this process does not know of. Called when it starts, and after an answer was lost.
    pub async fn recover(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self.store().list_unsent(last, PAGE).await?;
            last = page.last().copied();
            let missing: Vec<Lease> = page.into_iter().filter(|&key| !self.queue().holds(key)).collect();
            self.dispatch(Work::to_load(missing)).await?;
            if last.is_none() {
                return Ok(());
            }
        }
    }

    async fn sweeper(self: Arc<Self>, shutdown: CancellationToken) {
        let mut tries = 0;
        loop {
            let wait = if tries == 0 { SWEEP_EVERY } else { pause(tries) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
            tries = tokio::select! {
                swept = self.sweep_all() => if swept.is_ok() { 0 } else { tries + 1 },
                () = shutdown.cancelled() => return,
            };
        }
    }

    async fn sweep_all(self: &Arc<Self>) -> Result<(), StoreError> {
        // Recovery does not wait for a sweep that fails: what one row spoils concerns no other.
        let swept = self.sweep_until_nothing_is_left().await;
        if self.queue().gave_up() | self.lost_track.swap(false, Ordering::SeqCst) {
            self.recover().await.inspect_err(|_| self.recover_soon())?;
        }
        swept
    }

    async fn sweep_until_nothing_is_left(self: &Arc<Self>) -> Result<(), StoreError> {
        while self.sweep().await? != Default::default() {}
        Ok(())
    }
}

/// Works on what a source brings until `shutdown`, and then on what is still there.
async fn drain<C: Consumer>(source: impl Source<Message = C::Message>, consumer: C, shutdown: CancellationToken) {
    let limits = Limits { max_receives: MAX_RECEIVES, until: None };
    loop {
        let batch = tokio::select! {
            biased;
            batch = source.receive(limits::COMPLETION_BATCH) => batch,
            () = shutdown.cancelled() => return,
        };
        source.settle(consume(batch, limits, &consumer).await).await;
    }
}

struct Completer {
    engine: Arc<Engine<InProcess>>,
    shutdown: CancellationToken,
}

impl Consumer for Completer {
    type Message = Arc<CompleteStep>;
    type Note = ();

    async fn work(&self, completions: Arc<[Arc<CompleteStep>]>) -> Result<Vec<Disposition>, WorkError> {
        patiently(&self.shutdown, || self.engine.complete(completions.clone())).await?;
        Ok(vec![Disposition::Done; completions.len()])
    }
}

struct Evaluator {
    engine: Arc<Engine<InProcess>>,
    shutdown: CancellationToken,
}

impl Consumer for Evaluator {
    type Message = Evaluate;
    type Note = ();

    async fn work(&self, wake_ups: Arc<[Evaluate]>) -> Result<Vec<Disposition>, WorkError> {
        patiently(&self.shutdown, || self.engine.evaluate(wake_ups.to_vec())).await?;
        Ok(vec![Disposition::Done; wake_ups.len()])
    }
}

/// Tries again, however long the database is away; what the process still holds at `shutdown` is run again by the next one.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    shutdown: &CancellationToken,
    verb: impl Fn() -> F,
) -> Result<T, WorkError> {
    let mut tries = 0;
    loop {
        let error = match verb().await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(WorkError::Defect(error.to_string())),
        };
        if shutdown.run_until_cancelled(tokio::time::sleep(pause(tries))).await.is_none() {
            return Err(WorkError::Later(error.to_string()));
        }
        tries += 1;
    }
}

impl Bodies for Engine<InProcess> {
    async fn load_bodies(self: &Arc<Self>, leases: &[Lease]) -> (Vec<RunStep>, Vec<Lease>) {
        let mut tries = 0;
        loop {
            match self.load(leases).await {
                Ok(loaded) => return loaded,
                Err(e) if e.is_transient() => tokio::time::sleep(pause(tries)).await,
                Err(_) => {
                    self.recover_soon();
                    return (Vec::new(), Vec::new());
                }
            }
            tries += 1;
        }
    }
}
