//! Makes every call in every state of the rows, on the database. The first task is submitted. Real calls lead from there to every
//! other state of the rows, which is copied for each call that changes it, so no path is walked twice.

use std::collections::{HashSet, VecDeque};

use tasker_wire::TaskState;

use crate::{
    explore::{Explored, Fast, canonical_rows},
    model::{Call, Model, Rows, StepRow},
    replay::{Replay, Twin, Way, conceivable},
    states::step_of,
};

/// How many states are handled at once.
const CHUNK: usize = 200;

/// What was replayed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Covered {
    /// States of the rows.
    pub rows: usize,
    /// Calls that changed them.
    pub moves: usize,
    /// Calls that must not change them, and did not.
    pub refused: usize,
}

impl std::ops::AddAssign for Covered {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::Add for Covered {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { rows: self.rows + other.rows, moves: self.moves + other.moves, refused: self.refused + other.refused }
    }
}

impl std::fmt::Display for Covered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rows, moves, refused } = self;
        write!(f, "{rows} states of the rows, {moves} calls that move them, {refused} that must not")
    }
}

/// Replays every call in every state of the rows that was explored, one for all that are `alike`.
/// `by_each`: a success by each function that may apply it; otherwise another one applies each.
pub async fn cover(replay: &Replay, model: &Model, explored: &Explored, alike: fn(Rows) -> Rows, by_each: bool) -> Covered {
    let symmetries = model.shape.symmetries();
    let known = |rows: &Rows| canonical_rows(&alike(*rows), &symmetries);
    let mut covered = Covered::default();
    let mut tried = HashSet::default();
    // Breadth first: the shortest paths have the fewest leases.
    let mut waiting = VecDeque::from(replay.submit(&[model]).await);
    let mut seen: HashSet<Rows, Fast> = waiting.iter().map(|t| known(&t.rows)).collect();
    while !waiting.is_empty() {
        let chunk: Vec<Twin> = waiting.drain(..waiting.len().min(CHUNK)).collect();
        covered.rows += chunk.len();
        let (chunk, refused) = refuse(replay, model, chunk, &mut tried, by_each).await;
        covered.refused += refused;
        let moves: Vec<(Twin, Call)> = chunk
            .iter()
            .flat_map(|twin| moves(model, &twin.rows).into_iter().map(move |call| (*twin, call)))
            .filter(|(twin, call)| explored.rows.contains(&known(&after(model, &twin.rows, *call))))
            .collect();
        covered.moves += moves.len();
        let by =
            |(n, (twin, call)): (usize, (Twin, Call))| Way::of(call, n, by_each).map(move |way| (Twin { way, ..twin }, call));
        let moves: Vec<(Twin, Call)> = moves.into_iter().enumerate().flat_map(by).collect();
        for part in moves.chunks(CHUNK) {
            let copies = replay.copies(&part.iter().map(|(twin, _)| *twin).collect::<Vec<_>>()).await;
            let mut jobs: Vec<_> = copies.into_iter().zip(part).map(|(twin, (_, call))| (twin, model, *call)).collect();
            replay.make(&mut jobs).await;
            waiting.extend(jobs.into_iter().map(|(twin, ..)| twin).filter(|twin| seen.insert(known(&twin.rows))));
        }
    }
    assert!(explored.rows.iter().all(|rows| seen.contains(rows)), "{}: rows that no call leads to", model.shape);
    covered
}

/// Makes the calls that must change nothing, one after the other on the same tasks. They depend only on one step and the state of
/// its task, so in a larger shape each is made once for all rows that agree in these.
async fn refuse(
    replay: &Replay,
    model: &Model,
    mut twins: Vec<Twin>,
    tried: &mut HashSet<Look, Fast>,
    by_each: bool,
) -> (Vec<Twin>, usize) {
    let all = model.shape.steps < 3;
    let mut calls: Vec<Vec<Call>> = twins.iter().map(|twin| stays(model, &twin.rows)).collect();
    for (twin, calls) in twins.iter().zip(&mut calls) {
        calls.retain(|&call| tried.insert(look(&twin.rows, call)) || all);
    }
    let made = calls.iter().map(Vec::len).sum();
    let by = |(n, call): (usize, Call)| Way::of(call, n, by_each).map(move |way| (way, call));
    let calls: Vec<Vec<(Way, Call)>> =
        calls.into_iter().map(|calls| calls.into_iter().enumerate().flat_map(by).collect()).collect();
    for round in 0..calls.iter().map(Vec::len).max().unwrap_or_default() {
        let mut places: Vec<usize> = (0..twins.len()).filter(|&place| calls[place].len() > round).collect();
        places.sort_by_key(|&place| twins[place].task);
        let job = |&place: &usize| {
            let (way, call) = calls[place][round];
            (Twin { way, ..twins[place] }, model, call)
        };
        let mut jobs: Vec<_> = places.iter().map(job).collect();
        replay.make(&mut jobs).await;
        for (place, (twin, ..)) in places.into_iter().zip(jobs) {
            twins[place] = twin;
        }
    }
    (twins, made)
}

/// Everything on which a call that changes nothing depends.
type Look = (TaskState, StepRow, Call);

fn look(rows: &Rows, call: Call) -> Look {
    (rows.task, rows.without_past().steps[step_of(call)], call)
}

fn after(model: &Model, rows: &Rows, call: Call) -> Rows {
    let mut after = *rows;
    model.apply(&mut after, call);
    after
}

fn moves(model: &Model, rows: &Rows) -> Vec<Call> {
    let leads_on = |call: &Call| after(model, rows, *call).without_past() != rows.without_past();
    conceivable(model, rows).into_iter().filter(leads_on).collect()
}

fn stays(model: &Model, rows: &Rows) -> Vec<Call> {
    let stays = |call: &Call| after(model, rows, *call).without_past() == rows.without_past();
    conceivable(model, rows).into_iter().filter(stays).collect()
}
