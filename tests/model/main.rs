//! A small model of the orchestrator: all its states under loss, duplication, reordering, crashes and operators, explored
//! exhaustively over production's own decide functions, and replayed on the functions of the database.
//!
//! `MODEL_PATHS` and `MODEL_SEED` say how many paths of four steps are drawn, and which; `MODEL_FAULTS` how many faults the
//! replay of every call allows at three steps.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod cover;
mod explore;
mod model;
mod planted;
mod replay;
mod shapes;
mod walk;
mod world;

use std::{collections::VecDeque, sync::Mutex, time::Instant};

use cover::{Covered, cover};
use explore::{Explored, explore};
use model::Model;
use replay::Replay;
use shapes::{Shape, shapes};
use walk::walk;
use world::{Detail, Left};

/// Things done at once; one more than cores, because each also waits for the database.
const AT_ONCE: usize = 3;

#[test]
fn in_every_state_of_up_to_four_steps_every_promise_holds() {
    let detailed = [(1, 1, left(1, 1, 2)), (1, 2, left(1, 1, 1)), (2, 2, left(1, 0, 1)), (2, 2, left(1, 1, 0))];
    let current = [
        (1, 1, left(5, 5, 2)),
        (1, 2, left(5, 5, 2)),
        (2, 1, left(3, 3, 1)),
        (2, 2, left(3, 3, 1)),
        (3, 1, left(2, 1, 1)),
        (3, 2, left(2, 1, 1)),
        (4, 2, left(1, 1, 1)),
    ];
    let jobs = detailed.map(|job| (Detail::All, job)).into_iter().chain(current.map(|job| (Detail::Current, job)));
    let jobs: VecDeque<(Detail, Shape, u8, Left)> = jobs
        .flat_map(|(detail, (steps, tries, left))| shapes(steps).into_iter().map(move |shape| (detail, shape, tries, left)))
        .rev()
        .collect();
    let (jobs, sum, start) = (Mutex::new(jobs), Mutex::new((0, 0)), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let next = || jobs.lock().unwrap().pop_front();
                while let Some((detail, shape, tries, left)) = next() {
                    let found = explore(&Model::new(shape, tries), left, detail);
                    tell(shape, tries, left, detail, &found);
                    let mut sum = sum.lock().unwrap();
                    *sum = (sum.0 + found.states, sum.1 + found.transitions);
                }
            });
        }
    });
    let (states, transitions) = sum.into_inner().unwrap();
    println!("{states} states and {transitions} transitions in {:.1?}", start.elapsed());
}

#[test]
fn telling_only_current_messages_apart_loses_no_rows() {
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
    let faults = number("MODEL_FAULTS", 1) as u8;
    let mut jobs = VecDeque::new();
    for (steps, left) in [(3, left(faults, 1, 1)), (2, left(1, 1, 1)), (1, left(5, 5, 2))] {
        jobs.extend(shapes(steps).into_iter().map(|shape| (shape, left)));
    }
    let jobs = std::sync::Arc::new(Mutex::new(jobs));
    let (mut workers, start) = (tokio::task::JoinSet::new(), Instant::now());
    for _ in 0..AT_ONCE {
        let jobs = jobs.clone();
        workers.spawn(async move {
            let (replay, mut sum) = (Replay::new().await, Covered::default());
            let next = || jobs.lock().unwrap().pop_front();
            while let Some((shape, left)) = next() {
                let model = Model::new(shape, 2);
                let covered = cover(&replay, &model, &explore(&model, left, Detail::Current)).await;
                println!("{shape:20} {covered}");
                sum += covered;
            }
            replay.check().await;
            sum
        });
    }
    let sum = workers.join_all().await.into_iter().reduce(|one, other| one + other).unwrap();
    println!("{sum} in {:.1?}", start.elapsed());
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
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("it is a number"))
}

fn tell(shape: Shape, tries: u8, left: Left, detail: Detail, found: &Explored) {
    let Left { faults, reports, actions } = left;
    let bounds = format!("{tries} tries, {faults} faults, {reports} reports, {actions} actions");
    let detail = if detail == Detail::All { "every message" } else { "current messages" };
    let (states, transitions, ends) = (found.states, found.transitions, found.ends);
    println!("{shape:20} {bounds}, {detail}: {states} states, {transitions} transitions, {ends} ends");
}
