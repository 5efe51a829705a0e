//! The engine as one process: the loops that drain its queue, and what makes a restart go on where the last process stopped.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tasker_store::StoreError;
use tasker_wire::{Answer, CompleteStep, Outcome, RunStep, limits, message::Lease};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{BODIES, Engine, InProcess, in_process::Head, pause, work::Work};

/// How often time is looked at. Retries come by their own timers; this is for what those lost.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// Loops that apply completions. While one waits for its commit the other gathers the next batch.
const COMPLETERS: usize = 2;
/// How often a completion that meets a defect of ours is applied again, until its step is run again instead.
const DEFECT_TRIES: u32 = 5;
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
        let (defects, met) = mpsc::channel(limits::COMPLETION_BATCH);
        for _ in 0..COMPLETERS {
            loops.spawn(self.clone().completer(defects.clone(), shutdown.clone()));
        }
        loops.spawn(self.clone().mender(met, shutdown.clone()));
        loops.spawn(self.clone().evaluator(shutdown.clone()));
        loops.spawn(self.clone().sweeper(shutdown));
        loops.join_all().await;
    }

    /// At most `max` messages of a pool; waits for one. Nothing is lost when the future is dropped.
    pub async fn receive(self: &Arc<Self>, pool: &str, max: usize) -> Vec<RunStep> {
        loop {
            let changed = match self.queue().head(pool, max, BODIES) {
                Head::Ready(messages) => return messages,
                Head::Load(keys) => {
                    tokio::spawn(self.clone().load_bodies(pool.to_owned(), keys));
                    continue;
                }
                Head::Empty(changed) => changed,
            };
            let heard = changed.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            // Look again after listening: what arrived in between is not heard.
            match self.queue().head(pool, max, BODIES) {
                Head::Ready(messages) => return messages,
                Head::Load(keys) => {
                    tokio::spawn(self.clone().load_bodies(pool.to_owned(), keys));
                }
                Head::Empty(_) => heard.await,
            }
        }
    }

    /// Sends every hand-over that this process does not know of. Called when it starts, and after an answer was lost.
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

    async fn load_bodies(self: Arc<Self>, pool: String, keys: Vec<Lease>) {
        let mut tries = 0;
        loop {
            match self.load(&keys).await {
                Ok((bodies, later)) => return self.queue().loaded(&pool, &keys, bodies, &later),
                Err(e) if e.is_transient() => tokio::time::sleep(pause(tries)).await,
                Err(_) => {
                    self.queue().loaded(&pool, &keys, Vec::new(), &[]);
                    return self.recover_soon();
                }
            }
            tries += 1;
        }
    }

    async fn completer(self: Arc<Self>, defects: mpsc::Sender<CompleteStep>, shutdown: CancellationToken) {
        loop {
            let batch = tokio::select! {
                biased;
                batch = self.queue().completions(limits::COMPLETION_BATCH) => batch,
                () = shutdown.cancelled() => break,
            };
            self.complete_surely(batch.into(), &defects, &shutdown).await;
        }
    }

    /// Applies a batch, however long the database is away; what the process still holds then is run again by the next one.
    async fn complete_surely(
        self: &Arc<Self>,
        batch: Arc<[CompleteStep]>,
        defects: &mpsc::Sender<CompleteStep>,
        shutdown: &CancellationToken,
    ) {
        let mut tries = 0;
        loop {
            match self.complete(batch.clone()).await {
                Ok(answers) => return self.answered(&batch, &answers),
                Err(e) if e.is_transient() => {
                    tokio::select! {
                        () = tokio::time::sleep(pause(tries)) => tries += 1,
                        () = shutdown.cancelled() => return,
                    }
                }
                // One completion meets a defect of ours: the others must not wait for it.
                Err(_) if batch.len() > 1 => {
                    for completion in batch.iter() {
                        Box::pin(self.complete_surely(Arc::new([completion.clone()]), defects, shutdown)).await;
                    }
                    return;
                }
                Err(e) => {
                    let (step_id, lease) = (batch[0].step_id, batch[0].lease);
                    tracing::error!(%step_id, lease, error = %e, "a completion could not be applied; the step will be run again");
                    // Where so many wait already, everything meets the defect: then the completers may as well wait.
                    tokio::select! {
                        _ = defects.send(batch[0].clone()) => {}
                        () = shutdown.cancelled() => {}
                    }
                    return;
                }
            }
        }
    }

    /// Tries again what met a defect, a few times; then the steps are run again, and the next process may know better.
    async fn mender(self: Arc<Self>, mut met: mpsc::Receiver<CompleteStep>, shutdown: CancellationToken) {
        loop {
            let mut broken = Vec::new();
            tokio::select! {
                _ = met.recv_many(&mut broken, limits::COMPLETION_BATCH) => {}
                () = shutdown.cancelled() => return,
            }
            for tries in 0..DEFECT_TRIES {
                tokio::select! {
                    () = tokio::time::sleep(pause(tries)) => {}
                    () = shutdown.cancelled() => return,
                }
                broken = self.mend(broken).await;
            }
            for completion in &broken {
                self.queue().release(completion.lease());
            }
            if !broken.is_empty() {
                self.recover_soon();
            }
        }
    }

    /// Applies each by itself; answers those that still cannot be applied.
    async fn mend(self: &Arc<Self>, broken: Vec<CompleteStep>) -> Vec<CompleteStep> {
        let mut still_broken = Vec::new();
        for completion in broken {
            let batch: Arc<[CompleteStep]> = Arc::new([completion]);
            match self.complete(batch.clone()).await {
                Ok(answers) => self.answered(&batch, &answers),
                Err(_) => still_broken.push(batch[0].clone()),
            }
        }
        still_broken
    }

    fn answered(&self, batch: &[CompleteStep], answers: &[Answer]) {
        for (completion, answer) in batch.iter().zip(answers) {
            let still_runs = matches!(completion.outcome, Outcome::Started {} | Outcome::Heartbeat {});
            if !still_runs {
                self.queue().release(completion.lease());
            }
            if *answer != Answer::Accepted {
                tracing::debug!(step_id = %completion.step_id, lease = completion.lease, ?answer, "a completion changed nothing");
            }
        }
    }

    async fn evaluator(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let wake_ups = tokio::select! {
                wake_ups = self.queue().wake_ups() => wake_ups,
                () = shutdown.cancelled() => return,
            };
            // What fails here is still due, so the sweep finds it.
            let _ = self.evaluate(wake_ups).await;
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
        if self.lost_track.swap(false, Ordering::SeqCst) {
            self.recover().await.inspect_err(|_| self.recover_soon())?;
        }
        swept
    }

    async fn sweep_until_nothing_is_left(self: &Arc<Self>) -> Result<(), StoreError> {
        while self.sweep().await? != Default::default() {}
        Ok(())
    }
}
