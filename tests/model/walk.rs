//! Draws random paths through the states of the model, and walks them on the database from the submit to the end.

use tasker_test_support::Chance;

use crate::{
    model::{Call, Model},
    replay::{Replay, Twin, Way},
    states::{Detail, Edge, Event, How, Left, State, edges, submitted},
};

/// How many paths are walked at once.
const CHUNK: usize = 250;
/// How many draws of a hundred may be a fault, a report or an action of an operator.
const DISTURBED: usize = 35;

/// What was walked.
#[derive(Debug, Default, Clone, Copy)]
pub struct Walked {
    /// Everything that happened: losses, deliveries, calls.
    pub events: usize,
    pub calls: usize,
    pub disturbed: usize,
    pub crashed: usize,
}

impl std::fmt::Display for Walked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { events, calls, disturbed, crashed } = self;
        write!(f, "{events} events, {calls} calls; {disturbed} faults, reports and actions, {crashed} crashes among them")
    }
}

/// Walks so many paths, one model after the other.
pub async fn walk(replay: &Replay, models: &[Model], left: Left, paths: usize, seed: u64) -> Walked {
    let mut chance = Chance::new(seed);
    let mut walked = Walked::default();
    let mut begun = 0;
    while begun < paths {
        let of: Vec<&Model> = (begun..paths.min(begun + CHUNK)).map(|n| &models[n % models.len()]).collect();
        begun += of.len();
        let twins = replay.submit(&of).await;
        let mut walks: Vec<(&Model, Twin, State)> =
            of.iter().zip(twins).map(|(model, twin)| (*model, twin, chance.one_of(submitted(model, left)))).collect();
        while !walks.is_empty() {
            let (mut jobs, mut states) = (Vec::new(), Vec::new());
            for (model, mut twin, state) in walks {
                if let Some((call, to)) = next_call(model, state, &mut chance, &mut walked) {
                    twin.way = chance.one_of(Way::ALL.to_vec());
                    jobs.push((twin, model, call));
                    states.push((twin.task, to));
                }
            }
            walked.calls += jobs.len();
            replay.make(&mut jobs).await;
            states.sort_by_key(|(task, _)| *task);
            walks = jobs.into_iter().zip(states).map(|((twin, model, _), (_, state))| (model, twin, state)).collect();
            assert!(walks.iter().all(|(_, twin, state)| twin.rows == state.rows), "the model does not agree with itself");
        }
    }
    walked
}

/// The next call on a path, and the state after it. None at the end.
fn next_call(model: &Model, mut state: State, chance: &mut Chance, walked: &mut Walked) -> Option<(Call, State)> {
    loop {
        let (mut free, mut others) = (Vec::new(), Vec::new());
        edges(model, &state, Detail::All, &mut |edge: Edge| {
            if edge.free && edge.to != state { free.push(edge) } else { others.push(edge) }
        });
        let disturbed = chance.below(100) < DISTURBED && !others.is_empty();
        if free.is_empty() && !disturbed {
            return None;
        }
        let edge = chance.one_of(if disturbed { others } else { free });
        walked.events += 1;
        walked.disturbed += usize::from(!edge.free);
        state = edge.to;
        if let Event::Call(call, how) = edge.event {
            walked.crashed += usize::from(how == How::Crashed);
            return Some((call, state));
        }
    }
}
