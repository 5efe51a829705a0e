//! The measurements: one workflow at a time, and as many callers as asked for, each with one workflow at a time.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    database::{Counts, Server},
    engine::{Client, Ended, Engine, PATIENCE},
    process,
    shape::Shape,
    tables::Written,
};

/// The time over which callers start, so that they do not all send their first request at once.
const RAMP: Duration = Duration::from_secs(1);

/// Pause of a caller that was refused: what our `Retry-After` asks for, and up to half as long again, as clients do that do not want
/// to come back all at once.
fn refused_pause() -> Duration {
    Duration::from_millis(1000 + u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * 2)
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    pub runs: usize,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    pub fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |q: f64| ms.get(((ms.len() as f64 * q) as usize).min(ms.len().saturating_sub(1))).copied().unwrap_or_default();
        Self { runs: ms.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1.0) }
    }
}

/// One at a time; each in milliseconds.
pub async fn one_at_a_time<E: Engine>(engine: &E, shape: Shape, runs: usize) -> Result<Vec<f64>> {
    let mut client = engine.client().await?;
    let mut ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        let begun = Instant::now();
        let ended = client.run(shape).await?;
        ensure!(ended == Ended::Complete, "one workflow at a time ended as {ended:?}");
        ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(ms)
}

/// The result of a load.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    pub concurrency: usize,
    pub seconds: f64,
    /// Workflows that were finished in these seconds.
    pub complete: usize,
    /// Workflows that were finished at all: what the costs are divided by.
    pub finished: usize,
    pub steps_per_second: f64,
    pub latency: Latency,
    pub refused: usize,
    /// How long it took to refuse.
    pub refusal: Latency,
    pub timed_out: usize,
}

#[derive(Default)]
struct Seen {
    complete: Vec<f64>,
    finished: usize,
    refused: Vec<f64>,
    timed_out: usize,
}

/// What callers do, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// They start a workflow and wait until it is finished.
    Run,
    /// They start a workflow.
    Submit,
}

/// Runs `concurrency` callers for a duration that begins when the last one has started. Workflows that still run at its end are
/// awaited and not counted.
pub async fn load<E: Engine>(
    engine: &Arc<E>,
    (shape, calls): (Shape, Calls),
    concurrency: usize,
    lasts: Duration,
) -> Result<Load> {
    let mut clients = Vec::new();
    for _ in 0..concurrency {
        clients.push(engine.client().await?);
    }
    let begun = Instant::now();
    let counted = begun + RAMP..begun + RAMP + lasts;
    let mut callers = JoinSet::new();
    for (n, client) in clients.into_iter().enumerate() {
        let begins = begun + RAMP * n as u32 / concurrency as u32;
        callers.spawn(call(client, (shape, calls), begins, counted.clone()));
    }
    let mut all = Seen::default();
    while let Some(seen) = callers.join_next().await {
        let seen = seen.context("a caller panicked")??;
        all.complete.extend(seen.complete);
        all.finished += seen.finished;
        all.refused.extend(seen.refused);
        all.timed_out += seen.timed_out;
    }
    let complete = all.complete.len();
    Ok(Load {
        concurrency,
        seconds: lasts.as_secs_f64(),
        complete,
        finished: all.finished,
        steps_per_second: (complete * shape.steps().len()) as f64 / lasts.as_secs_f64(),
        latency: Latency::of(all.complete),
        refused: all.refused.len(),
        refusal: Latency::of(all.refused),
        timed_out: all.timed_out,
    })
}

async fn call<C: Client>(
    mut client: C,
    (shape, calls): (Shape, Calls),
    begins: Instant,
    counted: Range<Instant>,
) -> Result<Seen> {
    tokio::time::sleep_until(begins.into()).await;
    let mut seen = Seen::default();
    while Instant::now() < counted.end {
        let begun = Instant::now();
        let ended = match calls {
            Calls::Run => tokio::time::timeout(2 * PATIENCE, client.run(shape)).await.unwrap_or(Ok(Ended::TimedOut))?,
            Calls::Submit => client.submit(shape).await?.map_or(Ended::Refused, |_| Ended::Complete),
        };
        let ms = begun.elapsed().as_secs_f64() * 1000.0;
        match ended {
            Ended::Complete => {
                seen.finished += 1;
                if counted.contains(&Instant::now()) {
                    seen.complete.push(ms);
                }
            }
            Ended::TimedOut => seen.timed_out += 1,
            Ended::Refused => {
                seen.refused.push(ms);
                tokio::time::sleep(refused_pause()).await;
            }
        }
    }
    Ok(seen)
}

/// Starts workflows from `concurrency` callers without waiting, then waits for all. The rate counts from the first start.
pub async fn submit_then_wait<E: Engine>(engine: &Arc<E>, shape: Shape, concurrency: usize, workflows: usize) -> Result<Drain> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..concurrency {
        let mut client = engine.client().await?;
        let own = workflows / concurrency + usize::from(caller < workflows % concurrency);
        callers.spawn(async move {
            let mut last = None;
            for _ in 0..own {
                loop {
                    match client.submit(shape).await? {
                        Some(workflow) => break last = Some(workflow),
                        None => tokio::time::sleep(refused_pause()).await,
                    }
                }
            }
            let submitted = begun.elapsed();
            if let Some(last) = last {
                ensure!(client.wait(&last).await?, "a workflow did not finish in time");
            }
            anyhow::Ok(submitted)
        });
    }
    let mut submitted = Duration::ZERO;
    while let Some(caller) = callers.join_next().await {
        submitted = submitted.max(caller.context("a caller panicked")??);
    }
    let whole = begun.elapsed().as_secs_f64();
    let steps = (workflows * shape.steps().len()) as f64;
    Ok(Drain { workflows, submits_per_second: workflows as f64 / submitted.as_secs_f64(), steps_per_second: steps / whole })
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Drain {
    pub workflows: usize,
    pub submits_per_second: f64,
    pub steps_per_second: f64,
}

/// What everything cost between two moments.
pub struct Meter<'a> {
    server: &'a Server,
    database: String,
    pids: Vec<u32>,
    begun: Instant,
    before: (Counts, Written, Cpu),
}

/// CPU time in seconds, by whose it is.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cpu {
    pub orchestrator: f64,
    pub workers: f64,
    pub postgres: f64,
    pub client: f64,
    /// Everything else on this machine.
    pub others: f64,
}

/// What a step cost.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Cost {
    pub steps: usize,
    pub statements: f64,
    pub commits: f64,
    pub wal_bytes: f64,
    pub wal_bytes_with_the_servers_own: f64,
    pub full_pages: f64,
    pub pages: f64,
    pub pages_read: f64,
    /// Rows of `attempts`.
    pub attempts: f64,
    /// The part of the updates of `steps` that wrote no index.
    pub hot_share: f64,
    /// Seconds a thousand steps.
    pub cpu: Cpu,
    /// Processors that everything else on this machine kept busy.
    pub load_of_others: f64,
}

impl Cost {
    /// CPU seconds a thousand steps of all processes that the engine needs.
    pub fn cpu_of_engine(&self) -> f64 {
        self.cpu.orchestrator + self.cpu.workers + self.cpu.postgres
    }
}

impl<'a> Meter<'a> {
    pub async fn start<E: Engine>(server: &'a Server, database: &str, engine: &E) -> Result<Self> {
        let pids = engine.pids();
        let before = (server.counts(database).await?, Written::of(server, database).await?, cpu(server, &pids));
        Ok(Self { server, database: database.to_owned(), pids, begun: Instant::now(), before })
    }

    pub async fn stop(self, steps: usize) -> Result<Cost> {
        let now = cpu(self.server, &self.pids);
        let seconds = self.begun.elapsed().as_secs_f64();
        let (counts, written, was) = self.before;
        let counts = self.server.counts(&self.database).await? - counts;
        let now_written = Written::of(self.server, &self.database).await?;
        let a_step = |count: i64| count as f64 / steps.max(1) as f64;
        let a_thousand = |seconds: f64| seconds * 1000.0 / steps.max(1) as f64;
        Ok(Cost {
            steps,
            statements: a_step(counts.statements),
            commits: a_step(counts.commits),
            wal_bytes: a_step(counts.wal_bytes),
            wal_bytes_with_the_servers_own: a_step(counts.wal_position),
            full_pages: a_step(counts.full_pages),
            pages: a_step(counts.pages),
            pages_read: a_step(counts.pages_read),
            attempts: a_step(now_written.attempts - written.attempts),
            hot_share: now_written.hot_share(written),
            cpu: Cpu {
                orchestrator: a_thousand(now.orchestrator - was.orchestrator),
                workers: a_thousand(now.workers - was.workers),
                postgres: a_thousand(now.postgres - was.postgres),
                client: a_thousand(now.client - was.client),
                others: a_thousand(now.others - was.others),
            },
            load_of_others: (now.others - was.others).max(0.0) / seconds,
        })
    }
}

fn cpu(server: &Server, pids: &[u32]) -> Cpu {
    let sum = |pids: &[u32]| pids.iter().map(|&pid| process::cpu(pid).as_secs_f64()).sum::<f64>();
    let (orchestrator, workers) = pids.split_at(pids.len().min(1));
    let all = process::cpu_of_all().as_secs_f64();
    let cpu = Cpu {
        orchestrator: sum(orchestrator),
        workers: sum(workers),
        postgres: sum(&process::tree(server.pid)),
        client: process::cpu(std::process::id()).as_secs_f64(),
        others: 0.0,
    };
    Cpu { others: all - cpu.orchestrator - cpu.workers - cpu.postgres - cpu.client, ..cpu }
}
