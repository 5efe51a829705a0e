//! Visits every reachable state, breadth first, and checks the rules for each state and for each transition.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

use tasker_wire::{StepState, TaskState};

use crate::{
    machine::{is_answerable, is_live},
    model::{Answer, Call, Effects, Model, NOT_APPLIED, Rows, STEPS, Said, StepRow},
    shapes::bits,
    states::{Detail, Edge, Event, Left, Messages, State, edges, submitted},
};

/// What was found of one shape.
#[derive(Debug, Default, Clone)]
pub struct Explored {
    pub states: usize,
    pub transitions: usize,
    /// States in which nothing is left to happen by itself.
    pub ends: usize,
    /// Every state of the rows, without the past.
    pub rows: HashSet<Rows, Fast>,
}

/// Visits every state. Panics with the events that lead to the first state that breaks a rule.
pub fn explore(model: &Model, left: Left, detail: Detail) -> Explored {
    let symmetries = model.shape.symmetries();
    let tell = |state: &State| canonical(&state.told(detail), &symmetries);
    let mut graph = Graph::default();
    for state in submitted(model, left) {
        graph.add(tell(&state), u32::MAX, Event::Start);
    }
    let mut rows = HashSet::<Rows, Fast>::default();
    let mut transitions = 0;
    let mut at = 0;
    while let Some(&from) = graph.states.get(at) {
        hold(graph.check(at, |state| check_rows(model, &state.rows)));
        rows.insert(canonical_rows(&from.rows, &symmetries));
        let mut next = Vec::new();
        edges(model, &from, detail, &mut |edge| next.push(edge));
        let mut ended = true;
        for edge in next {
            transitions += 1;
            hold(graph.check(at, |_| check_edge(&from, &edge)).map_err(|e| format!("{e}\n  then {:?}", edge.event)));
            if edge.to == from {
                continue;
            }
            let to = graph.add(tell(&edge.to), at as u32, edge.event);
            if edge.free {
                ended = false;
                graph.free.push((at as u32, to));
            }
        }
        if ended {
            graph.ends += 1;
            hold(graph.check(at, check_end));
        }
        at += 1;
    }
    assert!(graph.free_events_come_to_an_end(), "{}: something can go on for ever", model.shape);
    Explored { states: graph.states.len(), transitions, ends: graph.ends, rows }
}

pub fn hold(check: Result<(), String>) {
    check.unwrap_or_else(|violation| panic!("{violation}"));
}

/// The rules for every state of the rows.
pub fn check_rows(model: &Model, rows: &Rows) -> Result<(), String> {
    let steps = &rows.steps[..model.shape.steps];
    let count = |f: fn(&StepRow) -> bool| steps.iter().filter(|s| f(s)).count() as i8;
    let failed = |s: &StepRow| matches!(s.state, StepState::Error | StepState::Cancelled);
    that(rows.active == count(|s| is_live(s.state)), "active_steps is the number of live steps")?;
    that(rows.failed == count(failed), "failed_steps is the number of failed steps")?;
    that((rows.active > 0) == (rows.task == TaskState::Running), "a task runs exactly while a step is live")?;
    let expected = match rows.task {
        TaskState::Complete => steps.iter().all(StepRow::is_done),
        TaskState::Error => rows.failed > 0,
        TaskState::Cancelled => steps.iter().all(|s| s.state.is_finished()),
        _ => true,
    };
    that(expected, "a finished task says what became of its steps")?;
    for (no, step) in steps.iter().enumerate() {
        let open = bits(model.shape.parents[no]).filter(|&p| !steps[p].is_done()).count();
        let ran = !matches!(step.state, StepState::Pending | StepState::Cancelled | StepState::ResolvedManually);
        that(!ran || open == 0, "a step starts after all its parents are done")?;
        if step.state == StepState::Pending {
            that(usize::from(step.pending_parents) == open, "pending_parents is the number of open parents")?;
            that(open > 0, "a step whose parents are done is not left behind")?;
        }
        that(step.attempt <= model.policy.max_attempts as u8 && step.lease >= step.attempt, "budget and lease")?;
        that(!is_live(step.state) || step.attempt > 0, "a live step is in its first try or a later one")?;
        check_marks(step)?;
    }
    Ok(())
}

fn check_marks(step: &StepRow) -> Result<(), String> {
    let marks: Vec<(u8, u8)> = (1..=crate::model::LEASES).map(|lease| (lease, step.mark(lease))).filter(|m| m.1 != 0).collect();
    let succeeded: Vec<u8> = marks.iter().filter(|m| m.1 == Said::Success.mark()).map(|m| m.0).collect();
    let expected: &[u8] = if step.state == StepState::Complete { &[step.lease] } else { &[] };
    that(succeeded == expected, "a step is complete by the one success that was applied, under its lease")?;
    that(marks.iter().all(|&(lease, _)| lease <= step.lease), "only a lease that was given is answered")?;
    let fenced = marks.iter().all(|&(lease, mark)| mark < NOT_APPLIED || lease < step.lease);
    that(fenced, "what is not applied is fenced off")?;
    that(!is_answerable(step.state) || step.mark(step.lease) == 0, "a step that may be answered was not answered yet")
}

/// The rules for a transition.
fn check_edge(from: &State, edge: &Edge) -> Result<(), String> {
    match edge.event {
        Event::Call(call, _) => check_move(&from.rows, &edge.to.rows, call, edge.effects.as_ref()),
        _ => that(edge.to.rows == from.rows, "only calls move rows"),
    }
}

/// The rules for the rows before and after a call.
pub fn check_move(before: &Rows, after: &Rows, call: Call, effects: Option<&Effects>) -> Result<(), String> {
    for (b, a) in before.steps.iter().zip(&after.steps) {
        that(a.lease >= b.lease, "a lease never falls")?;
        that(b.marks & a.marks == b.marks, "what was recorded stays")?;
        if call.is_operators() {
            that(b.state != StepState::Complete || (b.state, b.lease) == (a.state, a.lease), "a complete step stays")?;
            that(b.state == a.state || a.lease > b.lease, "what an operator moves gets a new lease")?;
        } else if b.state.is_finished() {
            that(b == &StepRow { marks: b.marks, ..*a }, "a finished step is moved by operators only")?;
        }
    }
    let task = before.task == after.task || !before.task.is_finished();
    that(task || call.is_operators() && before.task == TaskState::Error, "a finished task is moved by operators only")?;
    let ended = effects.is_some_and(|e| e.finished.is_some());
    that(ended == (after.task.is_finished() && before.task != after.task), "the end of a task is told once")?;
    if let Call::Complete { step, lease, .. } = call {
        let accepted = effects.is_some_and(|e| e.answer == Answer::Applied(tasker_wire::Answer::Accepted));
        let answered = before.steps[usize::from(step)].mark(lease) != 0;
        that(!(accepted && answered), "a lease is applied once")?;
    }
    Ok(())
}

/// The rules for a state in which nothing is left to happen by itself.
pub fn check_end(state: &State) -> Result<(), String> {
    that(state.messages == [Messages::default(); STEPS], "every message is taken in the end")?;
    that(state.rows.task.is_finished(), "every task finishes")
}

pub fn that(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

/// One representative of all rows that differ only by a symmetry of the shape, or by the past.
pub fn canonical_rows(rows: &Rows, symmetries: &[Vec<usize>]) -> Rows {
    let rows = rows.without_past();
    let renamed = |names: &Vec<usize>| {
        let mut renamed = rows;
        for (step, &name) in names.iter().enumerate() {
            renamed.steps[name] = rows.steps[step];
        }
        renamed
    };
    if symmetries.len() < 2 { rows } else { symmetries.iter().map(renamed).min().expect("there is one at least") }
}

/// One representative of all states that differ only by a symmetry of the shape.
fn canonical(state: &State, symmetries: &[Vec<usize>]) -> State {
    let renamed = |names: &Vec<usize>| {
        let mut renamed = *state;
        for (step, &name) in names.iter().enumerate() {
            renamed.rows.steps[name] = state.rows.steps[step];
            renamed.messages[name] = state.messages[step];
        }
        renamed
    };
    if symmetries.len() < 2 { *state } else { symmetries.iter().map(renamed).min().expect("there is one at least") }
}

#[derive(Default)]
pub struct Graph {
    known: HashMap<State, u32, Fast>,
    pub states: Vec<State>,
    came_by: Vec<(u32, Event)>,
    /// Transitions without a fault.
    pub free: Vec<(u32, u32)>,
    pub ends: usize,
}

impl Graph {
    pub fn add(&mut self, state: State, from: u32, event: Event) -> u32 {
        match self.known.entry(state) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let number = self.states.len() as u32;
                new.insert(number);
                self.states.push(state);
                self.came_by.push((from, event));
                number
            }
        }
    }

    /// Adds the events that lead to the state to the error of a broken rule.
    pub fn check(&self, at: usize, check: impl FnOnce(&State) -> Result<(), String>) -> Result<(), String> {
        check(&self.states[at]).map_err(|rule| {
            let mut path = Vec::new();
            let mut here = at as u32;
            while here != u32::MAX {
                let (from, event) = self.came_by[here as usize];
                path.push(format!("  {event:?}"));
                here = from;
            }
            path.reverse();
            format!("does not hold: {rule}\n{}\n{:#?}", path.join("\n"), self.states[at])
        })
    }

    /// Removes states without a predecessor, again and again. Whatever remains at the end is a cycle.
    pub fn free_events_come_to_an_end(&mut self) -> bool {
        self.free.sort_unstable();
        let mut waits_for = vec![0_u32; self.states.len()];
        for &(_, to) in &self.free {
            waits_for[to as usize] += 1;
        }
        let mut first: Vec<u32> = (0..self.states.len() as u32).filter(|&n| waits_for[n as usize] == 0).collect();
        let mut taken = 0;
        while let Some(node) = first.pop() {
            taken += 1;
            let start = self.free.partition_point(|&(from, _)| from < node);
            for &(_, to) in self.free[start..].iter().take_while(|&&(from, _)| from == node) {
                waits_for[to as usize] -= 1;
                if waits_for[to as usize] == 0 {
                    first.push(to);
                }
            }
        }
        taken == self.states.len()
    }
}

pub type Fast = BuildHasherDefault<FastHasher>;

/// A fast hash, for keys that no attacker chooses.
#[derive(Default)]
pub struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}
