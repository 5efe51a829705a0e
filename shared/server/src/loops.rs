//! The loops of the engine in one process: they drain its queue and sweep.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, Retryable};
use futures::FutureExt;
use tasker_engine::{Engine, PAUSES, disposition};
use tasker_queue::{Consumer, Disposition, InProcess, Limits, MAX_RECEIVES, Source, WorkError, consume};
use tasker_store::StoreError;
use tasker_wire::{Answer, CompleteStep, Evaluate, limits};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// The interval of the sweep. Retries have timers of their own; the sweep finds what those lost.
const SWEEP_EVERY: Duration = Duration::from_millis(200);
/// The interval at which the sweep looks whether the clock of the database jumped.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(5);
/// The interval at which the sweep looks whether this process knows all that the database has dispatched. What is lost is found at the
/// second look.
const LOOK_FOR_LOST: Duration = Duration::from_secs(60);
/// The interval at which tasks are looked for that take longer than their template allows.
const LOOK_FOR_STALE: Duration = Duration::from_secs(60);
/// A loop that runs so much too late was paused with its process: a laptop slept, or somebody stopped it.
const PAUSE: Duration = Duration::from_secs(5);
/// Loops that apply completions. While one waits for its commit the other gathers the next batch.
const COMPLETERS: usize = 2;

/// Drains the queue until `shutdown`; then applies what is still in it and returns.
pub async fn drain_queue(engine: Arc<Engine<InProcess>>, shutdown: CancellationToken) {
    let mut loops = JoinSet::new();
    for _ in 0..COMPLETERS {
        let completer = Completer { engine: engine.clone(), shutdown: shutdown.clone() };
        loops.spawn(drain(engine.queue().completions(), completer, shutdown.clone()));
    }
    let evaluator = Evaluator { engine: engine.clone(), shutdown: shutdown.clone() };
    loops.spawn(drain(engine.queue().wake_ups(), evaluator, shutdown.clone()));
    loops.spawn(sweeper(engine.clone(), shutdown.clone()));
    loops.spawn(look_for_stale(engine, shutdown));
    loops.join_all().await;
}

/// Works on the messages of a source until `shutdown`, and then on those that are still in it.
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
        let answers = patiently(&self.shutdown, || self.engine.complete(completions.clone())).await?;
        // A report of a handler that runs in vain: its worker is told to stop it.
        for (completion, _) in completions.iter().zip(&answers).filter(|(_, answer)| **answer == Answer::Stale) {
            self.engine.queue().forget_lease(completion.lease());
        }
        Ok(answers.into_iter().map(disposition).collect())
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

/// Retries until the database answers. After `shutdown` it makes one last try; the next process runs again what then remains.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    shutdown: &CancellationToken,
    verb: impl Fn() -> F,
) -> Result<T, WorkError> {
    let asked = shutdown.clone();
    let pause = move |length| asked.clone().run_until_cancelled_owned(tokio::time::sleep(length)).map(drop);
    let tries = verb.retry(PAUSES).sleep(pause);
    let last = tries.when(|error| error.is_transient() && !shutdown.is_cancelled()).await;
    last.map_err(|error| match error.is_transient() {
        true => WorkError::Later(error.to_string()),
        false => WorkError::Defect(error.to_string()),
    })
}

async fn sweeper(engine: Arc<Engine<InProcess>>, shutdown: CancellationToken) {
    let mut pauses = PAUSES.build();
    let mut wait = SWEEP_EVERY;
    let (mut look, mut look_for_lost) = (Instant::now(), Instant::now());
    let sweeps = async {
        loop {
            let due = Instant::now() + wait;
            tokio::time::sleep_until(due).await;
            if due.elapsed() > PAUSE {
                engine.was_paused(due.elapsed());
            }
            if engine.watches_clock() && look.elapsed() >= LOOK_AT_CLOCK && engine.watch_clock().await.is_ok() {
                look = Instant::now();
            }
            if engine.sweep_and_recover().await.is_ok() {
                (pauses, wait) = (PAUSES.build(), SWEEP_EVERY);
                if look_for_lost.elapsed() >= LOOK_FOR_LOST && engine.look_for_lost().await.is_ok() {
                    look_for_lost = Instant::now();
                }
            } else {
                wait = pauses.next().unwrap_or(SWEEP_EVERY);
            }
        }
    };
    shutdown.run_until_cancelled(sweeps).await;
}

/// A loop of its own, because ending many tasks takes longer than a sweep may wait.
async fn look_for_stale(engine: Arc<Engine<InProcess>>, shutdown: CancellationToken) {
    let looks = async {
        loop {
            tokio::time::sleep(LOOK_FOR_STALE).await;
            if let Err(error) = engine.look_for_stale(|| false).await {
                tracing::warn!(%error, "the look for stale tasks did not end; the next one begins anew");
            }
        }
    };
    shutdown.run_until_cancelled(looks).await;
}
