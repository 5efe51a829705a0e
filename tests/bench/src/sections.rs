//! What is measured, section by section, and what each figure should be.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};

use crate::{
    adapter::Adapter,
    database::{Server, connect},
    distance,
    engine::Engine,
    floor::Floor,
    measure::{Calls, Cost, Latency, Load, Meter, load, one_at_a_time, submit_then_wait},
    past, process,
    report::Report,
    shape::Shape,
    tables,
    tasker::{Language, Tasker},
};

/// Callers at once.
const CONCURRENCY: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
const RUN: (Shape, Calls) = (Shape::Linear4, Calls::Run);
/// Callers of a long load.
const LONG: usize = 64;
/// How much more than the best number of callers is asked for.
const OVERLOAD: usize = 8;

/// A run of the benchmark.
pub struct Bench {
    pub bin: PathBuf,
    pub server: Server,
    pub floor: Floor,
    pub report: Report,
    pub quick: bool,
    /// How long a load lasts.
    pub shape_seconds: u64,
}

impl Bench {
    fn runs(&self, many: usize) -> usize {
        if self.quick { many / 5 } else { many }
    }

    fn lasts(&self) -> Duration {
        Duration::from_secs(self.shape_seconds)
    }

    pub fn floor(&mut self) -> Result<()> {
        let Floor { commit_ms, http_ms, rows_per_second, rows_per_second_by_ten, rows_per_second_by_fifty } = self.floor;
        self.report.figure("floor: a commit", commit_ms, "ms");
        self.report.figure("floor: an HTTP request", http_ms, "ms");
        self.report.figure("floor: a commit and a request for each of four steps and the start", self.floor.of_row(4), "ms");
        self.report.figure("floor: commits of one row, 64 connections", rows_per_second, "/s");
        self.report.figure("floor: rows in commits of ten, 4 connections", rows_per_second_by_ten, "/s");
        self.report.figure("floor: rows in commits of fifty, 4 connections", rows_per_second_by_fifty, "/s");
        self.report.detail("floor", self.floor)
    }

    async fn tasker(&self, database: &str, language: Language) -> Result<Tasker> {
        let url = self.server.database(database).await?;
        Tasker::start(&self.bin, &url, language, &Shape::LATENCY).await
    }

    /// One at a time, and what a step of it cost.
    async fn measure<E: Engine>(&self, engine: &E, database: &str, shape: Shape, runs: usize) -> Result<(Latency, Cost)> {
        self.server.settle().await?;
        // The first change of a page after a checkpoint logs the page whole: that is paid once, here.
        one_at_a_time(engine, shape, runs / 10 + 20).await?;
        let meter = Meter::start(&self.server, database, engine).await?;
        let ms = one_at_a_time(engine, shape, runs).await?;
        let cost = meter.stop(runs * shape.steps().len()).await?;
        Ok((Latency::of(ms), cost))
    }

    pub async fn latency(&mut self) -> Result<()> {
        println!("== one workflow at a time, Rust handlers in a process of their own");
        let engine = self.tasker("bench_latency", Language::Rust).await?;
        for (shape, target, stretch) in [
            (Shape::Linear4, Some(6.0), Some(4.0)),
            (Shape::Diamond, Some(5.0), Some(3.5)),
            (Shape::Fan50, Some(25.0), Some(13.0)),
            (Shape::Complex7, None, None),
        ] {
            let (latency, cost) = self.measure(&engine, "bench_latency", shape, self.runs(1000)).await?;
            let floor = self.floor.of_row(longest_path(shape));
            let name = shape.name();
            let figure = self.report.figure(format!("{name} p50"), latency.p50, "ms").floors(latency.p50 / floor);
            if let Some(target) = target {
                figure.at_most(target, stretch);
            }
            self.report.figure(format!("{name} p95"), latency.p95, "ms").floors(latency.p95 / floor);
            self.report.figure(format!("{name} p99"), latency.p99, "ms").floors(latency.p99 / floor);
            if shape == Shape::Linear4 {
                self.cost("linear4 one at a time", &cost, true);
            }
            self.report.detail(format!("latency {name}"), (latency, cost))?;
        }
        self.memory(&engine, "after that");
        engine.stop().await
    }

    /// What a step cost, held against the targets of an unbatched, or of a loaded engine.
    fn cost(&mut self, when: &str, cost: &Cost, unbatched: bool) {
        let report = &mut self.report;
        let stretch = |s: f64| if unbatched { None } else { Some(s) };
        report.figure(format!("{when}: commits a step"), cost.commits, "").at_most(2.0, stretch(0.3));
        report.figure(format!("{when}: statements (round trips) a step"), cost.statements, "").at_most(2.0, stretch(0.3));
        report.figure(format!("{when}: WAL a step"), cost.wal_bytes, "bytes").at_most(1536.0, stretch(1229.0));
        report.figure(format!("{when}: WAL a step with the server's own"), cost.wal_bytes_with_the_servers_own, "bytes");
        report.figure(format!("{when}: pages looked at a step"), cost.pages, "");
        report.figure(format!("{when}: rows of attempts a step"), cost.attempts, "");
        report.figure(format!("{when}: updates of steps that wrote no index"), 100.0 * cost.hot_share, "%");
        report
            .figure(format!("{when}: CPU of all processes of ours and PostgreSQL"), cost.cpu_of_engine(), "s/1000 steps")
            .at_most(0.8, stretch(0.3));
        report.figure(format!("{when}: of that the orchestrator"), cost.cpu.orchestrator, "s/1000 steps");
        report.figure(format!("{when}: of that the worker"), cost.cpu.workers, "s/1000 steps");
        report.figure(format!("{when}: of that PostgreSQL"), cost.cpu.postgres, "s/1000 steps");
        report.figure(format!("{when}: CPU of the benchmark's callers"), cost.cpu.client, "s/1000 steps");
        report.figure(format!("{when}: other load on the machine"), cost.load_of_others, "cores");
    }

    fn memory<E: Engine>(&mut self, engine: &E, when: &str) {
        let bytes: u64 = engine.pids().into_iter().map(process::memory).sum();
        self.report.figure(format!("memory of our processes {when}"), bytes as f64 / 1e6, "MB").at_most(60.0, 30.0);
    }

    /// Ever more callers. The best load, and all.
    async fn climb<E: Engine>(&mut self, name: &str, engine: &Arc<E>, database: &str) -> Result<(Load, Cost)> {
        self.server.settle().await?;
        load(engine, RUN, 8, Duration::from_secs(1)).await?;
        let mut best: Option<(Load, Cost)> = None;
        for concurrency in CONCURRENCY {
            let meter = Meter::start(&self.server, database, engine.as_ref()).await?;
            let load = load(engine, RUN, concurrency, self.lasts()).await?;
            let cost = meter.stop(load.finished * Shape::Linear4.steps().len()).await?;
            println!(
                "  {concurrency:3} callers: {:6.0} steps/s, p50 {:6.1} ms, p99 {:6.1} ms, {:.3} CPU-s, {:.2} statements, {:.0} bytes of WAL a step, \
                 {} refused, other load {:.2}",
                load.steps_per_second,
                load.latency.p50,
                load.latency.p99,
                cost.cpu_of_engine(),
                cost.statements,
                cost.wal_bytes,
                load.refused,
                cost.load_of_others,
            );
            self.report.detail(format!("load {name} {concurrency}"), (&load, cost))?;
            if best.as_ref().is_none_or(|(b, _)| b.steps_per_second < load.steps_per_second) {
                best = Some((load, cost));
            }
        }
        best.context("there is a best one")
    }

    pub async fn load(&mut self) -> Result<()> {
        println!("== ever more callers of linear4, each waiting for its workflow; Rust handlers");
        let engine = Arc::new(self.tasker("bench_load", Language::Rust).await?);
        let (best, cost) = self.climb("rust", &engine, "bench_load").await?;
        let floor = best.steps_per_second / self.floor.rows_per_second;
        let what = format!("steps/s of linear4, best with {} callers", best.concurrency);
        self.report.figure(what, best.steps_per_second, "/s").floors(floor).at_least(2500.0, 10000.0);
        self.cost("linear4 under load", &cost, false);
        self.memory(engine.as_ref(), "under load");
        let callers = best.concurrency * OVERLOAD;
        let over = load(&engine, RUN, callers, 2 * self.lasts()).await?;
        let goodput = 100.0 * over.steps_per_second / best.steps_per_second;
        self.report.figure(format!("goodput with {callers} callers, of the best"), goodput, "%").at_least(90.0, None);
        self.report.figure(format!("with {callers} callers: timed out"), over.timed_out as f64, "").at_most(0.0, None);
        self.report.figure(format!("with {callers} callers: refused"), over.refused as f64, "");
        self.report.figure(format!("with {callers} callers: p99 of what was accepted"), over.latency.p99, "ms");
        self.report.detail("overload", over)?;
        self.report.detail("statements under load", self.server.statements("bench_load").await?)?;
        let bytes: u64 = engine.pids().into_iter().map(process::memory).sum();
        self.report.figure(format!("memory of our processes with {callers} callers"), bytes as f64 / 1e6, "MB");
        // Nobody waits, so nothing but refusals slows them down.
        let flood = load(&engine, (Shape::Linear4, Calls::Submit), callers, self.lasts()).await?;
        let figure = format!("{callers} callers that do not wait: submits");
        self.report.figure(figure, flood.complete as f64 / flood.seconds, "/s");
        self.report.figure(format!("{callers} callers that do not wait: refused"), flood.refused as f64, "");
        let refusal =
            self.report.figure(format!("{callers} callers that do not wait: p99 of a refusal"), flood.refusal.p99, "ms");
        refusal.at_most(50.0, None);
        self.report.detail("flood", flood)?;
        // What was accepted is finished, although nobody waits for it.
        let begun = std::time::Instant::now();
        self.server.until("bench_load", "select count(*) = 0 from tasker.tasks where state = 'running'").await?;
        self.report.figure("after that: until every accepted task was finished", begun.elapsed().as_secs_f64(), "s");
        stop(engine).await
    }

    pub async fn batch(&mut self) -> Result<()> {
        println!("== submits that nobody waits for, and the widest task");
        let url = self.server.database("bench_batch").await?;
        let shapes = [Shape::Linear4, Shape::Fan50, Shape::Fan9998, Shape::Batch10000];
        let engine = Arc::new(Tasker::start(&self.bin, &url, Language::Rust, &shapes).await?);
        submit_then_wait(&engine, Shape::Linear4, 32, 200).await?;
        let drain = submit_then_wait(&engine, Shape::Linear4, 32, self.runs(10_000)).await?;
        self.report.figure("submits of linear4 by 32 callers that do not wait", drain.submits_per_second, "/s");
        self.report.figure("steps/s until all of those are finished", drain.steps_per_second, "/s");
        self.report.detail("batch", drain)?;
        let wide = Latency::of(one_at_a_time(engine.as_ref(), Shape::Fan9998, 3).await?);
        self.report.figure("a fan-out and fan-in of 9,998, p50 of three", wide.p50, "ms");
        self.report.figure("the same in steps", 10_000.0 * 1000.0 / wide.p50, "/s");
        self.report.detail("wide", wide)?;
        let batch = Latency::of(one_at_a_time(engine.as_ref(), Shape::Batch10000, 3).await?);
        self.report.figure("a batch of 10,000 workers with ten places, p50 of three", batch.p50, "ms");
        self.report.figure("the same in steps", 10_002.0 * 1000.0 / batch.p50, "/s");
        self.report.detail("batch of 10,000", batch)?;
        stop(engine).await
    }

    pub async fn python(&mut self) -> Result<()> {
        println!("== Python handlers in a process of their own");
        let engine = Arc::new(self.tasker("bench_python", Language::Python).await?);
        for shape in Shape::LATENCY {
            let (latency, cost) = self.measure(engine.as_ref(), "bench_python", shape, self.runs(500)).await?;
            let floors = latency.p50 / self.floor.of_row(longest_path(shape));
            self.report.figure(format!("Python: {} p50", shape.name()), latency.p50, "ms").floors(floors);
            self.report.detail(format!("latency python {}", shape.name()), (latency, cost))?;
        }
        let (best, cost) = self.climb("python", &engine, "bench_python").await?;
        self.report.figure(
            format!("Python: steps/s of linear4, best with {} callers", best.concurrency),
            best.steps_per_second,
            "/s",
        );
        self.report.figure("Python: CPU of all processes of ours and PostgreSQL", cost.cpu_of_engine(), "s/1000 steps");
        stop(engine).await
    }

    /// Runs of an empty and of a full database take turns, so that what else happens here happens to both.
    pub async fn past(&mut self) -> Result<()> {
        println!("== beside finished workflows, and a thousand that wait");
        let sizes: &[(i64, &str)] =
            if self.quick { &[(10_000, "10,000")] } else { &[(10_000, "10,000"), (1_000_000, "1,000,000")] };
        for &(tasks, shown) in sizes {
            let empty = self.tasker("bench_empty", Language::Rust).await?;
            let full = self.tasker("bench_full", Language::Rust).await?;
            let client = connect(&self.server.address("bench_full")).await?;
            past::finished(&client, tasks).await?;
            past::waiting(&client, 1_000).await?;
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for engine in [&empty, &full] {
                one_at_a_time(engine, Shape::Linear4, 100).await?;
            }
            self.server.settle().await?;
            for _ in 0..self.runs(20) {
                without.extend(one_at_a_time(&empty, Shape::Linear4, 50).await?);
                with.extend(one_at_a_time(&full, Shape::Linear4, 50).await?);
            }
            let (without, with) = (Latency::of(without), Latency::of(with));
            let what = format!("linear4 p50 beside {shown} finished and 1,000 waiting, as a multiple of empty");
            self.report.figure(what, with.p50 / without.p50, "").at_most(1.05, None);
            self.report.figure(format!("the same in time, {shown}"), with.p50, "ms");
            self.report.detail(format!("past {tasks}"), (without, with))?;
            empty.stop().await?;
            full.stop().await?;
        }
        Ok(())
    }

    /// Minutes of load, with autovacuum as it comes: what tables and indexes grow to.
    pub async fn long(&mut self, minutes: usize) -> Result<()> {
        println!("== {minutes} minutes of load by {LONG} callers of linear4");
        let engine = Arc::new(self.tasker("bench_long", Language::Rust).await?);
        let client = connect(&self.server.address("bench_long")).await?;
        let mut sizes = Vec::new();
        for minute in 1..=minutes {
            let load = load(&engine, RUN, LONG, Duration::from_secs(60)).await?;
            let now = tables::sizes(&client).await?;
            println!("  minute {minute}: {:.0} steps/s, p50 {:.1} ms", load.steps_per_second, load.latency.p50);
            for tables::Size { name, bytes, rows, dead } in &now {
                println!("    {name:<32} {:>9.1} MB {rows:>10} rows or entries {dead:>9} dead", *bytes as f64 / 1e6);
            }
            self.report.detail(format!("long {minute}"), (&load, &now))?;
            sizes.push(now);
        }
        let [Some(first), Some(last)] = [sizes.first(), sizes.last()] else { return stop(engine).await };
        let steps = |sizes: &[tables::Size]| sizes.iter().find(|s| s.name == "steps").map_or(1, |s| s.rows.max(1)) as f64;
        for size in last {
            let then = first.iter().find(|s| s.name == size.name).map_or(size.bytes, |s| s.bytes).max(1);
            let growth = (size.bytes as f64 / steps(last)) / (then as f64 / steps(first));
            self.report.figure(format!("{}: bytes a step after {minutes} minutes, of those after one", size.name), growth, "");
            self.report.figure(format!("{}: dead after {minutes} minutes", size.name), size.dead as f64, "");
        }
        stop(engine).await
    }

    pub async fn distance(&mut self) -> Result<()> {
        println!("== a database that is further away");
        for ms in [1, 5] {
            let name = format!("bench_distance_{ms}");
            self.server.database(&name).await?;
            let port = distance::to(self.server.socket()?, Duration::from_millis(ms))?;
            let url = Server::url_by_port(&name, port);
            let engine = Arc::new(Tasker::start(&self.bin, &url, Language::Rust, &Shape::LATENCY).await?);
            let (latency, cost) = self.measure(engine.as_ref(), &name, Shape::Linear4, self.runs(200)).await?;
            self.report.figure(format!("linear4 p50, database {ms} ms away"), latency.p50, "ms");
            let far = load(&engine, RUN, 64, self.lasts()).await?;
            self.report.figure(format!("steps/s of linear4 by 64 callers, database {ms} ms away"), far.steps_per_second, "/s");
            self.report.detail(format!("distance {ms}"), (latency, cost, far))?;
            stop(engine).await?;
        }
        Ok(())
    }

    pub async fn start(&mut self) -> Result<()> {
        println!("== programs: size, and how fast they start");
        for program in ["tasker-ctl", "tasker-worker", "bench-worker"] {
            let bytes = self.bin.join(program).metadata().with_context(|| format!("{program} is not built"))?.len();
            self.report.figure(format!("size of {program}"), bytes as f64 / 1e6, "MB");
        }
        for language in [Language::Rust, Language::Python] {
            let mut seconds = Vec::new();
            let url = self.server.database("bench_start").await?;
            Tasker::start(&self.bin, &url, language, &Shape::LATENCY).await?.stop().await?;
            for _ in 0..self.runs(20) {
                let engine = Tasker::start(&self.bin, &url, language, &Shape::LATENCY).await?;
                seconds.push(engine.started_in * 1000.0);
                engine.stop().await?;
            }
            let what = format!("start of tasker-ctl dev on a migrated database until it serves, {} worker", language.name());
            self.report.figure(what, Latency::of(seconds).p50, "ms");
        }
        let engine = self.tasker("bench_start", Language::Rust).await?;
        one_at_a_time(&engine, Shape::Linear4, 1).await?;
        let names = ["tasker-ctl dev", "its Rust worker"];
        for (pid, name) in engine.pids().into_iter().zip(names) {
            self.report.figure(format!("memory of {name} after its first workflow"), process::memory(pid) as f64 / 1e6, "MB");
        }
        engine.stop().await
    }

    pub async fn peer(&mut self, command: &[String]) -> Result<()> {
        let url = self.server.database("bench_peer").await?;
        let engine = Arc::new(Adapter::start(command, &url).await?);
        let name = engine.name.clone();
        println!("== {name}");
        for shape in Shape::LATENCY {
            let (latency, cost) = self.measure(engine.as_ref(), "bench_peer", shape, self.runs(200)).await?;
            self.report
                .figure(format!("{name}: {} p50", shape.name()), latency.p50, "ms")
                .floors(latency.p50 / self.floor.of_row(longest_path(shape)));
            self.report.detail(format!("latency {name} {}", shape.name()), (latency, cost))?;
        }
        let (best, cost) = self.climb(&name, &engine, "bench_peer").await?;
        let report = &mut self.report;
        report.figure(format!("{name}: steps/s of linear4, best with {} callers", best.concurrency), best.steps_per_second, "/s");
        report.figure(format!("{name}: CPU of it and PostgreSQL"), cost.cpu_of_engine(), "s/1000 steps");
        report.figure(format!("{name}: commits a step"), cost.commits, "");
        report.figure(format!("{name}: statements a step"), cost.statements, "");
        report.figure(format!("{name}: WAL a step"), cost.wal_bytes, "bytes");
        let bytes: u64 = engine.pids().into_iter().map(process::memory).sum();
        report.figure(format!("{name}: memory without PostgreSQL"), bytes as f64 / 1e6, "MB");
        stop(engine).await
    }
}

async fn stop<E: Engine>(engine: Arc<E>) -> Result<()> {
    Arc::into_inner(engine).context("every caller has ended")?.stop().await
}

/// Steps in a row that no engine can do at once.
fn longest_path(shape: Shape) -> usize {
    let mut depth = std::collections::HashMap::new();
    for (name, parents) in shape.steps() {
        let deepest = parents.iter().filter_map(|p| depth.get(p)).max().copied().unwrap_or(0_usize);
        depth.insert(name, deepest + 1);
    }
    depth.into_values().max().unwrap_or_default()
}
