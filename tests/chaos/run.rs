//! The tests: many seeds, the seeds that once failed, and the planted bugs.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use crate::{
    driver::{self, Report},
    embedded,
    faults::{Counts, Fault},
    hash::digest,
    history, loops,
    model::Growth,
    planted::{Changes, Plant},
    rig::Rig,
};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
/// Seeds that once failed: a step saw a grandparent that was not done; a task was cancelled before its submit was answered.
const REGRESSIONS: &[u64] = &[2, 1895];
/// Seeds of the engine's own loops.
const LOOPS: u64 = 8;
/// Seeds that are run twice.
const TWICE: u64 = 12;
/// How many lines around a difference are printed.
const CONTEXT: usize = 12;
/// Longer than any seed takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a seed runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Two processes, and a queue outside of them.
    Outside,
    /// One process and the queue inside it, statement by statement.
    Embedded,
    /// The same with the engine's own loops, in real time.
    Loops,
}

impl Kind {
    /// One seed in eight uses the queue of the embedded mode.
    fn of(seed: u64) -> Self {
        if seed.is_multiple_of(8) { Self::Embedded } else { Self::Outside }
    }
}

impl Growth {
    /// One seed in four has decisions alone, and so every result that a step may see.
    fn of(seed: u64) -> Self {
        if seed % 4 == 1 { Self::Decisions } else { Self::All }
    }
}

/// Runs one seed. A panic is its failure.
fn run_seed(runtime: &tokio::runtime::Runtime, rig: &mut Rig, (kind, growth): (Kind, Growth), seed: u64) -> Result<Report> {
    let run = async {
        let seed_of_a_kind = async {
            match kind {
                Kind::Outside => driver::run(rig, growth, seed).await,
                Kind::Embedded => embedded::run(rig, growth, seed).await,
                Kind::Loops => loops::run(rig, growth, seed).await,
            }
        };
        tokio::time::timeout(PATIENCE, seed_of_a_kind).await.context("the seed hangs")?
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run)))
        .unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()));
            Err(anyhow::anyhow!("a panic: {}", text.unwrap_or_default()))
        })
        .with_context(|| format!("seed {seed} ({kind:?}) fails; replay it by CHAOS_SEED={seed} scripts/chaos"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs seeds on all cores, a few at a time, and prints the injected faults. Answers the failures.
fn run_seeds(seeds: Vec<(Kind, u64)>) -> Vec<String> {
    // A thread waits for its database half the time.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).saturating_mul(2).min(seeds.len());
    let (next, totals, failures) = (AtomicU64::new(0), Mutex::new((Counts::new(), Report::default())), Mutex::new(Vec::new()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = runtime();
                let mut rig = runtime.block_on(Rig::new(None));
                while let Some(&(kind, seed)) = seeds.get(next.fetch_add(1, Relaxed) as usize) {
                    match run_seed(&runtime, &mut rig, (kind, Growth::of(seed)), seed) {
                        Ok(report) => add(&mut totals.lock(), report),
                        Err(e) => {
                            let text = format!("{e:#}");
                            eprintln!("{text}");
                            failures.lock().push(text);
                            rig = runtime.block_on(Rig::new(None));
                        }
                    }
                }
            });
        }
    });
    let (seconds, (counts, report)) = (began.elapsed().as_secs_f64(), totals.into_inner());
    println!("{} seeds in {seconds:.1} s, {:.1} a second", seeds.len(), seeds.len() as f64 / seconds);
    println!("{} tasks, {} steps, {} answers of workers", report.tasks, report.steps, report.answers);
    println!("{} faults, at least {} a seed:", counts.values().sum::<u64>(), driver::AT_LEAST);
    for (fault, count) in &counts {
        println!("  {fault:<24}{count:>8}");
    }
    // Otherwise nobody would notice a kind that is never injected, for example because the text of a statement changed.
    let all = seeds.len() < SEEDS as usize || counts.len() == Fault::OldAnswer as usize + 1;
    assert!(all, "some kinds of faults are never injected");
    failures.into_inner()
}

fn add((counts, totals): &mut (Counts, Report), report: Report) {
    for (fault, count) in report.faults {
        *counts.entry(fault).or_default() += count;
    }
    totals.tasks += report.tasks;
    totals.steps += report.steps;
    totals.answers += report.answers;
}

fn number(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok().filter(|text| !text.is_empty());
    given.map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

#[test]
fn every_seed_ends_as_its_model_says() {
    let seeds: Vec<u64> = match number("CHAOS_SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = number("CHAOS_FIRST").unwrap_or(1);
            (first..first + number("CHAOS_SEEDS").unwrap_or(SEEDS)).collect()
        }
    };
    let failures = run_seeds(seeds.into_iter().map(|seed| (Kind::of(seed), seed)).collect());
    assert!(failures.is_empty(), "{} seeds fail", failures.len());
}

#[test]
fn seeds_that_once_failed_end_as_their_models_say() {
    let failures = run_seeds(REGRESSIONS.iter().map(|&seed| (Kind::of(seed), seed)).collect());
    assert!(failures.is_empty(), "{} seeds fail", failures.len());
}

#[test]
fn the_loops_of_the_embedded_mode_end_as_their_models_say_in_real_time() {
    let failures = run_seeds((1..=LOOPS).map(|seed| (Kind::Loops, seed)).collect());
    assert!(failures.is_empty(), "{} seeds fail", failures.len());
}

#[test]
fn a_seed_does_the_same_twice() {
    let runtime = runtime();
    let mut rig = runtime.block_on(Rig::new(None));
    let first = number("CHAOS_FIRST").unwrap_or(1);
    for seed in first..first + number("CHAOS_TWICE").unwrap_or(TWICE) {
        let kind = if seed.is_multiple_of(2) { Kind::Embedded } else { Kind::Outside };
        let once = all_of(&runtime, &mut rig, kind, seed);
        let twice = all_of(&runtime, &mut rig, kind, seed);
        let differs = once
            .iter()
            .zip(&twice)
            .position(|(a, b)| a != b)
            .or((once.len() != twice.len()).then_some(once.len().min(twice.len())));
        if let Some(n) = differs {
            let around = |lines: &[String]| lines[n.saturating_sub(CONTEXT)..lines.len().min(n + CONTEXT)].join("\n  ");
            panic!("seed {seed} ({kind:?}) differs from line {n} on:\n  {}\nand then\n  {}", around(&once), around(&twice));
        }
        println!("seed {seed} ({kind:?}): {} lines, digest {:016x}", once.len(), digest(&once.join("\n")));
    }
}

/// Everything that a seed does, line by line: its messages in their order, its faults by kind, and its rows at the end.
fn all_of(runtime: &tokio::runtime::Runtime, rig: &mut Rig, kind: Kind, seed: u64) -> Vec<String> {
    let report = run_seed(runtime, rig, (kind, Growth::of(seed)), seed).unwrap();
    let faults = report.faults.iter().map(|(fault, count)| format!("{fault}: {count}"));
    let written = runtime.block_on(history::written(rig)).unwrap();
    report.journal.into_iter().chain(faults).chain(written).collect()
}

/// Runs seeds with a bug planted in each of its places until one finds it.
fn finds(plant: Plant, within: u64) {
    for &place in plant.places() {
        finds_in(place, plant, within);
    }
}

fn finds_in(place: Changes, plant: Plant, within: u64) {
    let runtime = runtime();
    let mut rig = runtime.block_on(Rig::new(Some((plant, place))));
    let functions: Vec<&str> = place.iter().map(|(function, _)| *function).collect();
    // Most bugs are in what all workflows have, and are found sooner where nothing else happens.
    let growth = if functions.contains(&"expand_v1") { Growth::Decisions } else { Growth::Never };
    for seed in 1..=within {
        let kind = if plant.is_embedded() { Kind::Embedded } else { Kind::Outside };
        if let Err(e) = run_seed(&runtime, &mut rig, (kind, growth), seed) {
            let rewrites = rig.sessions.bugs().rewrite.is_some();
            assert_eq!(rewrites, rig.sessions.rewritten() > 0, "{plant:?} has found no statement to live in");
            let reason = format!("{:#}", e.root_cause());
            println!("{plant:?} {functions:?} is found by seed {seed}: {}", reason.lines().next().unwrap_or_default());
            return;
        }
    }
    let rewritten = rig.sessions.rewritten();
    panic!("{plant:?} {functions:?} is not found within {within} seeds; the proxy rewrote {rewritten} statements");
}

#[test]
fn a_missing_fence_is_found() {
    finds(Plant::NoFence, 50);
}

#[test]
fn parents_read_with_the_decrement_are_found() {
    finds(Plant::ParentsReadWithTheDecrement, 50);
}

#[test]
fn a_decrement_that_is_not_aggregated_is_found() {
    finds(Plant::DecrementNotAggregated, 50);
}

#[test]
fn a_lease_that_is_not_raised_at_a_retry_is_found() {
    finds(Plant::LeaseNotRaisedAtRetry, 50);
}

#[test]
fn a_send_before_the_commit_is_found() {
    finds(Plant::SendBeforeCommit, 50);
}

#[test]
fn a_wake_up_that_is_lost_after_a_send_is_found() {
    finds(Plant::WakeUpLostAfterSend, 50);
}

#[test]
fn sweeps_that_do_not_skip_are_found() {
    finds(Plant::SweepsDoNotSkip, 50);
}

#[test]
fn a_sending_that_is_noted_for_nothing_is_found() {
    finds(Plant::NotedForNothing, 50);
}

#[test]
fn an_ancestor_that_is_forgotten_is_found() {
    finds(Plant::AncestorForgotten, 50);
}

#[test]
fn an_ancestor_without_its_result_is_found() {
    finds(Plant::AncestorWithoutResult, 50);
}

#[test]
fn a_recovery_that_finds_nothing_is_found() {
    finds(Plant::RecoveryFindsNothing, 10);
}
