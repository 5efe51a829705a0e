//! All states without any budget: messages are lost, doubled, late and re-sent, processes die, and operators cancel, retry and
//! resolve, each without a limit. A message of an old lease moves no rows, so the messages on their way need not be part of a
//! state: at any moment any outcome may arrive under the current lease, and any time may pass. Only the rows remain, and only
//! whether a lease is current matters, so the states are finite.

use std::collections::HashSet;

use tasker_wire::{StepState, TaskState};

use crate::{
    explore::{Explored, Graph, canonical_rows, check_end, check_move, check_rows, hold, that},
    machine::is_live,
    model::{Answer, Call, Effects, Model, Rows, STEPS, Said, StepRow},
    replay::conceivable,
    shapes::bits,
    states::{Event, How, Left, Messages, State, lease_of},
};

/// The call needs no operator, and moves its step on. Such calls come to an end, also those of workers that start, fall silent
/// and count as lost. A later report only moves the deadline; a released step has not moved on.
fn is_free(from: &Rows, call: Call) -> bool {
    match call {
        Call::Complete { said, .. } => said != Said::Released,
        Call::Report { step, .. } => from.steps[usize::from(step)].state == StepState::Enqueued,
        Call::Sweep { .. } | Call::Conclude { .. } | Call::Evaluate { .. } => true,
        Call::Cancel | Call::Retry { .. } | Call::Resolve { .. } => false,
    }
}

/// Visits every state. Panics with the calls that lead to the first state that breaks a rule.
pub fn explore(model: &Model) -> Explored {
    let symmetries = model.shape.symmetries();
    let state = |rows: &Rows| alone(canonical_rows(&without_numbers(*rows), &symmetries));
    let (mut graph, mut transitions, mut at) = (Graph::default(), 0, 0);
    graph.add(state(&model.submitted()), u32::MAX, Event::Start);
    while let Some(&State { rows: from, .. }) = graph.states.get(at) {
        hold(graph.check(at, |state| check_rows(model, &state.rows).and_then(|()| check_way_out(model, &state.rows))));
        let mut ended = true;
        for call in conceivable(model, &from) {
            let mut rows = from;
            let effects = model.apply(&mut rows, call);
            transitions += 1;
            let moved = check_call(&from, &rows, call, &effects);
            hold(graph.check(at, |_| moved).map_err(|e| format!("{e}\n  then {call:?}")));
            // Late outcomes are recorded and change nothing else.
            if rows.without_past() == from {
                continue;
            }
            let to = state(&rows);
            if to.rows == from {
                continue;
            }
            let to = graph.add(to, at as u32, Event::Call(call, How::Plain));
            if is_free(&from, call) {
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
    let rows: HashSet<Rows, _> = graph.states.iter().map(|state| state.rows).collect();
    Explored { states: rows.len(), transitions, ends: graph.ends, rows }
}

/// The rows without the numbers of leases and past attempts: every current lease has the lowest possible number plus one, and a
/// finished step has no attempts, because an operator's retry starts again at the first.
pub fn without_numbers(mut rows: Rows) -> Rows {
    for step in rows.steps.iter_mut().filter(|s| s.lease > 0) {
        let mark = step.mark(step.lease);
        if step.state.is_finished() {
            (step.attempt, step.losses) = (0, 0);
        }
        step.lease = step.attempt.max(1) + 1;
        step.marks = u64::from(mark) << (4 * (step.lease - 1));
    }
    rows
}

fn alone(rows: Rows) -> State {
    State { rows, messages: [Messages::default(); STEPS], left: Left { faults: 0, reports: 0, actions: 0 } }
}

fn check_call(from: &Rows, to: &Rows, call: Call, effects: &Effects) -> Result<(), String> {
    if to == from {
        let silent = effects.finished.is_none() && (effects.sent == 0 || matches!(call, Call::Sweep { .. }));
        return that(silent, "what moves nothing sends nothing, but for a sweep");
    }
    check_move(from, to, call, Some(effects))?;
    if let Some((step, lease)) = lease_of(call) {
        let current = from.steps[usize::from(step)].lease == lease;
        that(current || to.without_past() == *from, "only what is said under the current lease moves rows")?;
    }
    let moved: u8 = bits(0b1111).filter(|&n| from.steps[n].lease != to.steps[n].lease).fold(0, |set, n| set | 1 << n);
    let live = bits(effects.sent).all(|n| to.steps[n].state == StepState::Enqueued);
    let dispatched = bits(moved).filter(|&n| to.steps[n].state == StepState::Enqueued).all(|n| effects.sent >> n & 1 == 1);
    that(live && dispatched, "a step is sent when it is dispatched, and only then or again while it is enqueued")
}

/// Whatever was lost, a sweep finds each live step; and if every live step succeeds from here on, the task completes, unless a
/// step has failed.
fn check_way_out(model: &Model, from: &Rows) -> Result<(), String> {
    let mut rows = *from;
    let live = |rows: &Rows| rows.steps.iter().position(|s| is_live(s.state));
    for step in 0..model.shape.steps as u8 {
        let effects = model.apply(&mut rows.clone(), Call::Sweep { step });
        let found = effects.sent == 1 << step || effects.answer == Answer::Lost;
        that(found == is_live(rows.steps[usize::from(step)].state), "a sweep finds what is live, and nothing else")?;
    }
    while let Some(step) = live(&rows) {
        let StepRow { state, lease, .. } = rows.steps[step];
        let step = step as u8;
        let on = match state {
            StepState::WaitingForRetry => Call::Sweep { step },
            _ => Call::Complete { step, lease, said: Said::Success },
        };
        model.apply(&mut rows, on);
        let moved = rows.steps[usize::from(step)];
        that((moved.state, moved.lease) != (state, lease), "a success of a live step moves it")?;
    }
    let failed = rows.steps.iter().any(|s| matches!(s.state, StepState::Error | StepState::Cancelled));
    let expected = match from.task {
        TaskState::Running if failed => TaskState::Error,
        TaskState::Running => TaskState::Complete,
        finished => finished,
    };
    that(rows.task == expected, "when every live step succeeds, the task ends")
}

/// Every call moves rows without numbers as it moves rows with numbers.
pub fn check_that_numbers_do_not_matter(model: &Model, rows: &Rows) {
    let plain = without_numbers(*rows);
    for call in conceivable(model, &plain) {
        let Some(numbered) = numbered(call, rows, &plain) else { continue };
        let (mut to, mut plain_to) = (*rows, plain);
        model.apply(&mut to, numbered);
        model.apply(&mut plain_to, call);
        assert_eq!(without_numbers(to), without_numbers(plain_to), "{}: {numbered:?} of {rows:#?}", model.shape);
    }
}

/// The same call on rows that have numbers.
fn numbered(mut call: Call, rows: &Rows, plain: &Rows) -> Option<Call> {
    if let Call::Complete { step, lease, .. }
    | Call::Report { step, lease }
    | Call::Conclude { step, lease, .. }
    | Call::Evaluate { step, lease, .. } = &mut call
    {
        let of = |rows: &Rows| rows.steps[usize::from(*step)].lease;
        *lease = (*lease + of(rows)).checked_sub(of(plain)).filter(|&l| l > 0)?;
    }
    Some(call)
}
