//! A small model of the orchestrator: all its states under loss, duplication, reordering, crashes and operators, explored
//! exhaustively with the decide functions of the product, and replayed on its SQL functions. The rows are explored without any
//! budget; the rows together with all messages on their way within budgets of faults, reports and operators' actions.
//!
//! `MODEL_PATHS` and `MODEL_SEED` set how many random paths of four steps are drawn, and which.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod cover;
mod explore;
mod machine;
mod model;
mod planted;
mod replay;
mod shapes;
mod states;
mod unbounded;
mod walk;

use std::{collections::VecDeque, time::Instant};

use cover::{Covered, cover};
use explore::{Explored, canonical_rows, explore};
use model::{Model, Rows};
use parking_lot::Mutex;
use replay::Replay;
use shapes::{Shape, shapes};
use states::{Detail, Left};
use unbounded::{check_that_numbers_do_not_matter, without_numbers};
use walk::walk;

/// How many jobs run at once: one more than cores, because each also waits for the database.
const AT_ONCE: usize = 3;

#[test]
fn in_every_state_of_up_to_four_steps_every_promise_holds() {
    let jobs = (1..=4).flat_map(|steps| [1, 2].map(|tries| (steps, tries)));
    let jobs: Vec<(Shape, u8)> = jobs.flat_map(|(n, tries)| shapes(n).into_iter().map(move |shape| (shape, tries))).collect();
    let (jobs, sums, start) = (Mutex::new(jobs), Mutex::new([(0, 0); 2]), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                // The largest first.
                let next = || jobs.lock().pop();
                while let Some((shape, tries)) = next() {
                    let [all, within] = without_and_within_budgets(shape, tries);
                    let mut sums = sums.lock();
                    *sums = [(sums[0].0 + all.0, sums[0].1 + all.1), (sums[1].0 + within.0, sums[1].1 + within.1)];
                }
            });
        }
    });
    println!("in {:.1?}", start.elapsed());
    // States and transitions without and within budgets, as `docs/promise.md` states them.
    assert_eq!(sums.into_inner(), [(344_022, 25_812_384), (946_251, 7_282_210)]);
}

/// Explores a shape without any budget, and within budgets with all messages. Answers states and transitions of both.
fn without_and_within_budgets(shape: Shape, tries: u8) -> [(usize, usize); 2] {
    let model = Model::new(shape, tries);
    let all = unbounded::explore(&model);
    let Explored { states, transitions, ends, .. } = all;
    println!("{shape:20} {tries} tries, no budget: {states} states, {transitions} transitions, {ends} ends");
    let mut within = (0, 0);
    for (detail, left) in budgets(shape.steps, tries) {
        let found = explore(&model, left, detail);
        tell(shape, tries, left, detail, &found);
        within = (within.0 + found.states, within.1 + found.transitions);
        let symmetries = shape.symmetries();
        let known = |rows: &Rows| all.rows.contains(&canonical_rows(&without_numbers(*rows), &symmetries));
        assert!(found.rows.iter().all(known), "{shape}: rows within a budget that there are not without any");
    }
    [(states, transitions), within]
}

/// Without a budget all rows are found. The runs within budgets show that the messages lead to no other rows.
fn budgets(steps: usize, tries: u8) -> Vec<(Detail, Left)> {
    let (all, current) = (|left| (Detail::All, left), |left| (Detail::Current, left));
    match (steps, tries) {
        (1, 1) => vec![all(left(1, 1, 2)), current(left(5, 5, 2))],
        (1, _) => vec![all(left(1, 1, 1)), current(left(5, 5, 2))],
        (2, 1) => vec![current(left(3, 3, 1))],
        (2, _) => vec![all(left(1, 0, 1)), all(left(1, 1, 0)), current(left(3, 3, 1))],
        (3, 1) => vec![current(left(1, 1, 1))],
        (3, _) => vec![current(left(2, 1, 1))],
        (_, 1) => Vec::new(),
        _ => vec![current(left(1, 0, 1))],
    }
}

#[test]
fn numbers_of_leases_and_past_tries_move_no_rows() {
    for (steps, left) in [(1, left(5, 5, 2)), (2, left(2, 2, 1)), (3, left(1, 1, 1))] {
        for model in shapes(steps).into_iter().map(|shape| Model::new(shape, 2)) {
            let rows = explore(&model, left, Detail::Current).rows;
            rows.iter().for_each(|rows| check_that_numbers_do_not_matter(&model, rows));
            println!("{}: looked at in {} rows", model.shape, rows.len());
        }
    }
}

#[test]
fn distinguishing_only_current_messages_reaches_all_rows() {
    for (steps, left) in [(1, left(1, 1, 1)), (2, left(1, 1, 0)), (2, left(1, 0, 1))] {
        for shape in shapes(steps) {
            let model = Model::new(shape, 2);
            let (all, current) = (explore(&model, left, Detail::All), explore(&model, left, Detail::Current));
            println!("{shape}: {} states of {} rows are as good as {}", current.states, current.rows.len(), all.states);
            assert_eq!(all.rows, current.rows, "{shape}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_call_in_every_state_of_up_to_three_steps_moves_the_rows_as_the_model_says() {
    let mut jobs = VecDeque::new();
    for (steps, left) in [(3, None), (2, None), (2, Some(left(1, 1, 1))), (1, None), (1, Some(left(5, 5, 2)))] {
        jobs.extend(shapes(steps).into_iter().map(|shape| (shape, left)));
    }
    let jobs = std::sync::Arc::new(Mutex::new(jobs));
    let (mut workers, start) = (tokio::task::JoinSet::new(), Instant::now());
    for _ in 0..AT_ONCE {
        let jobs = jobs.clone();
        workers.spawn(async move {
            let (replay, mut sum) = (Replay::new().await, Covered::default());
            let next = || jobs.lock().pop_front();
            while let Some((shape, left)) = next() {
                let model = Model::new(shape, 2);
                // Within a budget also for every number of a lease, and after every number of attempts.
                let covered = match left {
                    Some(left) => {
                        cover(&replay, &model, &explore(&model, left, Detail::Current), Rows::without_past, false).await
                    }
                    None => cover(&replay, &model, &unbounded::explore(&model), without_numbers, true).await,
                };
                let budget = if left.is_none() { "no budget" } else { "a budget" };
                println!("{shape:20} {budget}: {covered}");
                sum += covered;
            }
            replay.check().await;
            sum
        });
    }
    let sum = workers.join_all().await.into_iter().reduce(|one, other| one + other).unwrap();
    println!("{sum} in {:.1?}", start.elapsed());
    assert_eq!((sum.moves, sum.refused), (114_810, 78_279), "as `docs/promise.md` states them");
}

#[tokio::test]
async fn paths_of_four_steps_move_the_rows_as_the_model_says() {
    let (paths, seed, start) = (number("MODEL_PATHS", 2_000) as usize, number("MODEL_SEED", 1), Instant::now());
    let replay = Replay::new().await;
    let models: Vec<Model> = shapes(4).into_iter().flat_map(|shape| [Model::new(shape, 2), Model::new(shape, 1)]).collect();
    println!("seed {seed}");
    let walked = walk(&replay, &models, left(3, 2, 2), paths, seed).await;
    replay.check().await;
    println!("{paths} paths: {walked} in {:.1?}", start.elapsed());
}

fn left(faults: u8, reports: u8, actions: u8) -> Left {
    Left { faults, reports, actions }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok().filter(|text| !text.is_empty());
    given.map_or(otherwise, |text| text.parse().expect("it is a number"))
}

fn tell(shape: Shape, tries: u8, left: Left, detail: Detail, found: &Explored) {
    let Left { faults, reports, actions } = left;
    let bounds = format!("{tries} tries, {faults} faults, {reports} reports, {actions} actions");
    let detail = if detail == Detail::All { "every message" } else { "current messages" };
    let (states, transitions, ends) = (found.states, found.transitions, found.ends);
    println!("{shape:20} {bounds}, {detail}: {states} states, {transitions} transitions, {ends} ends");
}
