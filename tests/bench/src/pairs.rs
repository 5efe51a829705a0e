//! Two builds of the same engine, measured in turn, so that what else happens on the machine happens to both.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{
    database::Server,
    measure::{Calls, Cost, Latency, Meter, load, one_at_a_time},
    shape::Shape,
    tasker::{Language, Tasker},
};

const DATABASE: &str = "bench_pair";
/// Callers at once under load.
const CALLERS: usize = 64;
const LASTS: Duration = Duration::from_secs(3);
/// How much higher a count of the second build may be: pages differ a little from run to run.
const COUNTS_MAY_RISE: f64 = 1.01;

/// One run of one build.
#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    linear4_ms: f64,
    fan50_ms: f64,
    steps_per_second: f64,
    /// Of linear4, one at a time.
    alone: Cost,
    /// Of linear4, under load.
    loaded: Cost,
}

/// What is compared: its name, its value in a run, and whether it is a count, which may not rise.
type Figure = (&'static str, fn(&Run) -> f64, bool);

const FIGURES: [Figure; 10] = [
    ("linear4 one at a time, p50", |r| r.linear4_ms, false),
    ("fan50 one at a time, p50", |r| r.fan50_ms, false),
    ("linear4 with 64 callers, steps/s (higher is better)", |r| r.steps_per_second, false),
    ("CPU a step, one at a time", |r| r.alone.cpu_of_engine(), false),
    ("CPU a step, with 64 callers", |r| r.loaded.cpu_of_engine(), false),
    ("commits a step", |r| r.alone.commits, true),
    ("statements a step", |r| r.alone.statements, true),
    ("bytes of WAL a step", |r| r.alone.wal_bytes, true),
    ("pages looked at a step", |r| r.alone.pages, true),
    ("bytes of WAL a step, with 64 callers", |r| r.loaded.wal_bytes, false),
];

/// Measures `before` and `after` in turn, prints the ratios after/before, and fails when a count rose.
pub async fn compare(server: &Server, before: &Path, after: &Path, pairs: usize) -> Result<serde_json::Value> {
    let mut runs: Vec<(Run, Run)> = Vec::new();
    for n in 0..pairs {
        // The order alternates, because the first of a pair pays for the previous run's leftovers, such as dirty pages.
        let pair = if n % 2 == 0 {
            let first = run(server, before).await?;
            (first, run(server, after).await?)
        } else {
            let first = run(server, after).await?;
            (run(server, before).await?, first)
        };
        println!(
            "  pair {}: linear4 {:.2} and {:.2} ms, fan50 {:.2} and {:.2} ms, {:.0} and {:.0} steps/s",
            n + 1,
            pair.0.linear4_ms,
            pair.1.linear4_ms,
            pair.0.fan50_ms,
            pair.1.fan50_ms,
            pair.0.steps_per_second,
            pair.1.steps_per_second
        );
        runs.push(pair);
    }
    let mut risen = Vec::new();
    println!("ratios after/before of {pairs} pairs: median, and the interval that holds it with 95 %");
    for (name, value, is_count) in FIGURES {
        let ratio = Ratio::of(runs.iter().map(|(before, after)| value(after) / value(before)).collect());
        let medians = [median(runs.iter().map(|(b, _)| value(b))), median(runs.iter().map(|(_, a)| value(a)))];
        println!(
            "  {name}: {:.3} ({:.3} to {:.3}); {:.3} and {:.3}",
            ratio.median, ratio.low, ratio.high, medians[0], medians[1]
        );
        if is_count && ratio.median > COUNTS_MAY_RISE {
            risen.push(name);
        }
    }
    ensure!(risen.is_empty(), "the second build needs more: {}", risen.join(", "));
    Ok(serde_json::to_value(runs)?)
}

async fn run(server: &Server, bin: &Path) -> Result<Run> {
    let url = server.database(DATABASE).await?;
    let engine = Arc::new(Tasker::start(bin, &url, Language::Rust, &Shape::LATENCY).await?);
    server.settle().await?;
    one_at_a_time(engine.as_ref(), Shape::Linear4, 60).await?;
    let meter = Meter::start(server, DATABASE, engine.as_ref()).await?;
    let linear4 = one_at_a_time(engine.as_ref(), Shape::Linear4, 300).await?;
    let alone = meter.stop(300 * Shape::Linear4.steps().len()).await?;
    let fan50 = one_at_a_time(engine.as_ref(), Shape::Fan50, 60).await?;
    let meter = Meter::start(server, DATABASE, engine.as_ref()).await?;
    let under_load = load(&engine, (Shape::Linear4, Calls::Run), CALLERS, LASTS).await?;
    let loaded = meter.stop(under_load.finished * Shape::Linear4.steps().len()).await?;
    if let Some(engine) = Arc::into_inner(engine) {
        crate::engine::Engine::stop(engine).await?;
    }
    Ok(Run {
        linear4_ms: Latency::of(linear4).p50,
        fan50_ms: Latency::of(fan50).p50,
        steps_per_second: under_load.steps_per_second,
        alone,
        loaded,
    })
}

struct Ratio {
    median: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    /// The median, and the order statistics between which the true median lies with 95 %, whatever the distribution.
    fn of(mut ratios: Vec<f64>) -> Self {
        ratios.sort_by(f64::total_cmp);
        let outside = below_the_median(ratios.len());
        Self { median: median(ratios.iter().copied()), low: ratios[outside], high: ratios[ratios.len() - 1 - outside] }
    }
}

/// How many of the lowest of `n` values may be left out so that the rest still reaches below the true median with 97.5 %.
fn below_the_median(n: usize) -> usize {
    let mut term = 0.5f64.powi(n as i32);
    let (mut sum, mut k) = (term, 0);
    while sum <= 0.025 {
        k += 1;
        term *= (n + 1 - k) as f64 / k as f64;
        sum += term;
    }
    k.saturating_sub(1).min(n.saturating_sub(1) / 2)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half.saturating_sub(1)], values[half]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_ten_ratios_leaves_out_the_lowest_and_the_highest() {
        let ratio = Ratio::of((1..=10).rev().map(f64::from).collect());
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 5.5, 9.0));
        assert_eq!([5, 6, 10, 20].map(below_the_median), [0, 0, 1, 5]);
    }
}
