//! The states of the model, and the edges between them: the rows of a task, the messages on their way, and the faults that may
//! still happen. Messages are sets, so they overtake each other freely; a message that a worker holds counts as not yet taken.

use tasker_wire::StepState;

use crate::{
    machine::is_answerable,
    model::{Answer, Call, Effects, Model, Rows, STEPS, Said},
    shapes::bits,
};

/// The messages on their way to or from one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Messages {
    /// Dispatched, one bit per lease.
    pub runs: u16,
    /// Wake-ups, one bit per lease.
    pub wake_ups: u16,
    /// Outcomes of workers, four bits per lease: one for each possible outcome.
    pub answers: u64,
    /// An overdue step that a sweep found and has not decided about: its lease, and its losses before. No lease: none.
    pub decision: (u8, u8),
}

/// How many faults, reports and actions are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Left {
    /// Losses, duplicates, crashes, re-sends too early, releases.
    pub faults: u8,
    /// Reports of a start or a heartbeat.
    pub reports: u8,
    /// Actions of operators.
    pub actions: u8,
}

/// A state of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct State {
    pub rows: Rows,
    pub messages: [Messages; STEPS],
    pub left: Left,
}

/// How a call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Plain,
    /// Its message is delivered a second time.
    Kept,
    /// The process dies after the commit, or loses the answer: nothing is sent, and the message comes again.
    Crashed,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Start,
    /// A worker takes a message and has an outcome. `kept`: the message is also delivered to another worker.
    Take {
        step: u8,
        lease: u8,
        said: Said,
        kept: bool,
    },
    LoseRun {
        step: u8,
        lease: u8,
    },
    LoseAnswer {
        step: u8,
        lease: u8,
        said: Said,
    },
    LoseWakeUp {
        step: u8,
        lease: u8,
    },
    LoseDecision {
        step: u8,
    },
    Call(Call, How),
}

/// Which messages make two states different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Every message of every lease, and all earlier outcomes.
    All,
    /// Only messages that can still move a row: those of a current lease without an outcome. The outcome is open until it
    /// arrives. Wake-ups are left to the sweep, which does the same.
    Current,
}

/// A transition from one state to another.
pub struct Edge {
    pub event: Event,
    pub to: State,
    /// It needs no fault, no report and no operator, so it happens in the end.
    pub free: bool,
    /// Of a call.
    pub effects: Option<Effects>,
}

/// The states after a submit: its messages are sent, or lost with the process.
pub fn submitted(model: &Model, left: Left) -> Vec<State> {
    let lost = State { rows: model.submitted(), messages: [Messages::default(); STEPS], left };
    let mut sent = lost;
    for root in bits(model.roots()) {
        sent.messages[root].runs = 1;
    }
    match left.faults {
        0 => vec![sent],
        _ => vec![sent, State { left: Left { faults: left.faults - 1, ..left }, ..lost }],
    }
}

/// Everything that can happen in a state.
pub fn edges(model: &Model, state: &State, detail: Detail, found: &mut impl FnMut(Edge)) {
    let mut out = Out { model, state, found };
    for step in 0..model.shape.steps as u8 {
        let row = &state.rows.steps[usize::from(step)];
        match detail {
            Detail::All => (1..=row.lease).for_each(|lease| {
                out.run(step, lease);
                out.answers(step, lease);
                out.wake_up(step, lease);
            }),
            Detail::Current => out.run_and_answer(step, row.lease),
        }
        out.time(step);
        out.operator(Call::Retry { step });
        out.operator(Call::Resolve { step });
    }
    out.operator(Call::Cancel);
}

struct Out<'a, F> {
    model: &'a Model,
    state: &'a State,
    found: &'a mut F,
}

impl<F: FnMut(Edge)> Out<'_, F> {
    fn messages(&self, step: u8) -> Messages {
        self.state.messages[usize::from(step)]
    }

    /// An event without a call, at the cost of so many faults.
    fn quiet(&mut self, event: Event, faults: u8, change: impl FnOnce(&mut State)) {
        let Some(left) = self.state.left.faults.checked_sub(faults) else {
            return;
        };
        let mut to = *self.state;
        to.left.faults = left;
        change(&mut to);
        (self.found)(Edge { event, to, free: faults == 0, effects: None });
    }

    /// A call whose message `take` removes, in each way it can end. A call that changes no row may as well come later.
    fn call(&mut self, call: Call, faults: u8, take: impl Fn(&mut Messages)) {
        let mut plain = *self.state;
        let effects = self.model.apply(&mut plain.rows, call);
        let sends = effects.sent != 0 || effects.wake_up || effects.answer == Answer::Lost;
        let moved = plain.rows != self.state.rows;
        let crashed = plain;
        send(&mut plain, call, &effects);
        let kept = plain;
        take(&mut plain.messages[step_of(call)]);
        let mut go = |how, mut to: State, faults, useful| {
            if let Some(left) = self.state.left.faults.checked_sub(faults).filter(|_| useful) {
                to.left.faults = left;
                (self.found)(Edge { event: Event::Call(call, how), to, free: faults == 0, effects: Some(effects) });
            }
        };
        go(How::Plain, plain, faults, true);
        go(How::Kept, kept, faults + 1, moved && kept != plain);
        go(How::Crashed, crashed, faults + 1, moved && sends);
    }

    fn run(&mut self, step: u8, lease: u8) {
        let messages = self.messages(step);
        let bit = 1 << (lease - 1);
        if messages.runs & bit != 0 {
            for said in Said::ALL {
                let released = u8::from(said == Said::Released);
                for kept in [false, true] {
                    self.quiet(Event::Take { step, lease, said, kept }, released + u8::from(kept), |to| {
                        let messages = &mut to.messages[usize::from(step)];
                        messages.runs &= if kept { u16::MAX } else { !bit };
                        messages.answers |= 1 << answer_bit(lease, said);
                    });
                }
            }
            self.quiet(Event::LoseRun { step, lease }, 1, |to| to.messages[usize::from(step)].runs &= !bit);
        }
        if messages.runs & bit != 0 || answers(&messages, lease) != 0 {
            self.report(step, lease);
        }
    }

    /// A worker takes a message, and its outcome arrives.
    fn run_and_answer(&mut self, step: u8, lease: u8) {
        if lease == 0 || self.messages(step).runs >> (lease - 1) & 1 == 0 {
            return;
        }
        let bit = 1 << (lease - 1);
        for said in Said::ALL {
            let released = u8::from(said == Said::Released);
            self.call(Call::Complete { step, lease, said }, released, |messages| messages.runs &= !bit);
        }
        self.quiet(Event::LoseRun { step, lease }, 1, |to| to.messages[usize::from(step)].runs &= !bit);
        self.report(step, lease);
    }

    fn report(&mut self, step: u8, lease: u8) {
        if self.state.left.reports > 0 {
            let mut to = *self.state;
            let call = Call::Report { step, lease };
            let effects = self.model.apply(&mut to.rows, call);
            to.left.reports -= 1;
            (self.found)(Edge { event: Event::Call(call, How::Plain), to, free: false, effects: Some(effects) });
        }
    }

    fn answers(&mut self, step: u8, lease: u8) {
        for said in Said::ALL {
            let bit = 1_u64 << answer_bit(lease, said);
            if self.messages(step).answers & bit != 0 {
                self.call(Call::Complete { step, lease, said }, 0, |messages| messages.answers &= !bit);
                self.quiet(Event::LoseAnswer { step, lease, said }, 1, |to| to.messages[usize::from(step)].answers &= !bit);
            }
        }
    }

    fn wake_up(&mut self, step: u8, lease: u8) {
        let bit = 1 << (lease - 1);
        if self.messages(step).wake_ups & bit == 0 {
            return;
        }
        let row = &self.state.rows.steps[usize::from(step)];
        if row.lease == lease && row.state == StepState::WaitingForRetry {
            // Too early: it is sent again with the remaining delay.
            self.call(Call::Evaluate { step, lease, due: false }, 0, |_| ());
        }
        self.call(Call::Evaluate { step, lease, due: true }, 0, |messages| messages.wake_ups &= !bit);
        self.quiet(Event::LoseWakeUp { step, lease }, 1, |to| to.messages[usize::from(step)].wake_ups &= !bit);
    }

    /// What time makes due. It is a fault if a step counts as lost while a worker still runs it.
    fn time(&mut self, step: u8) {
        let (row, messages) = (self.state.rows.steps[usize::from(step)], self.messages(step));
        let under_way = row.lease > 0 && (messages.runs >> (row.lease - 1) & 1 != 0 || answers(&messages, row.lease) != 0);
        let too_early = u8::from(under_way);
        match row.state {
            StepState::WaitingForRetry => self.call(Call::Sweep { step }, 0, |_| ()),
            StepState::Enqueued if messages.runs >> (row.lease - 1) & 1 == 0 => {
                self.call(Call::Sweep { step }, too_early, |_| ())
            }
            StepState::InProgress if messages.decision.0 != row.lease => self.call(Call::Sweep { step }, too_early, |_| ()),
            _ => {}
        }
        if let (lease @ 1.., losses) = messages.decision {
            self.call(Call::Conclude { step, lease, losses }, 0, |messages| messages.decision = (0, 0));
            self.quiet(Event::LoseDecision { step }, 1, |to| to.messages[usize::from(step)].decision = (0, 0));
        }
    }

    /// An action that is refused, or changes nothing, is free: it leads back to the same state.
    fn operator(&mut self, call: Call) {
        let mut to = *self.state;
        let effects = self.model.apply(&mut to.rows, call);
        if to.rows == self.state.rows {
            (self.found)(Edge { event: Event::Call(call, How::Plain), to, free: true, effects: Some(effects) });
            return;
        }
        let Some(actions) = to.left.actions.checked_sub(1) else {
            return;
        };
        to.left.actions = actions;
        if let Some(faults) = to.left.faults.checked_sub(1).filter(|_| effects.sent != 0) {
            let to = State { left: Left { faults, ..to.left }, ..to };
            (self.found)(Edge { event: Event::Call(call, How::Crashed), to, free: false, effects: Some(effects) });
        }
        send(&mut to, call, &effects);
        (self.found)(Edge { event: Event::Call(call, How::Plain), to, free: false, effects: Some(effects) });
    }
}

impl State {
    /// The state at this level of detail.
    pub fn told(mut self, detail: Detail) -> Self {
        if detail == Detail::All {
            return self;
        }
        for (row, messages) in self.rows.steps.iter().zip(&mut self.messages) {
            let current = if is_answerable(row.state) { 1 << (row.lease - 1) } else { 0 };
            let deciding = row.state == StepState::InProgress && messages.decision.0 == row.lease;
            *messages = Messages {
                runs: messages.runs & current,
                decision: if deciding { messages.decision } else { (0, 0) },
                ..Messages::default()
            };
        }
        self.rows = self.rows.without_past();
        self
    }
}

/// Sends after the commit.
fn send(to: &mut State, call: Call, effects: &Effects) {
    for step in bits(effects.sent) {
        to.messages[step].runs |= 1 << (to.rows.steps[step].lease - 1);
    }
    let step = step_of(call);
    let row = &to.rows.steps[step];
    if effects.wake_up {
        to.messages[step].wake_ups |= 1 << (row.lease - 1);
    }
    if effects.answer == Answer::Lost {
        to.messages[step].decision = (row.lease, row.losses);
    }
}

/// The step of a call; the first step for a call on the whole task.
pub fn step_of(call: Call) -> usize {
    match call {
        Call::Complete { step, .. }
        | Call::Report { step, .. }
        | Call::Conclude { step, .. }
        | Call::Evaluate { step, .. }
        | Call::Sweep { step }
        | Call::Retry { step }
        | Call::Resolve { step } => step.into(),
        Call::Cancel => 0,
    }
}

/// The step and the lease of a call that names a lease.
pub fn lease_of(call: Call) -> Option<(u8, u8)> {
    match call {
        Call::Complete { step, lease, .. }
        | Call::Report { step, lease }
        | Call::Conclude { step, lease, .. }
        | Call::Evaluate { step, lease, .. } => Some((step, lease)),
        _ => None,
    }
}

fn answer_bit(lease: u8, said: Said) -> u32 {
    4 * u32::from(lease - 1) + said as u32
}

fn answers(messages: &Messages, lease: u8) -> u64 {
    messages.answers >> (4 * (lease - 1)) & 15
}
