//! What the SQL functions do to the rows of one task, written a second time. The verdicts come from the product's own `decide`
//! and `decide_lost`, the transitions of a step from `machine`.

use std::sync::LazyLock;

use serde_json::{json, value::RawValue};
use tasker_domain::{
    Policy, Verdict,
    backoff::{Backoff, BackoffKind},
    decide,
    decide::{Again, decide_lost},
};
use tasker_wire::{Outcome, StepState, TaskState, limits, outcome::Failure};

use crate::{
    machine::{StepEvent, after, is_answerable, is_live},
    shapes::{Shape, bits},
};

/// The most steps of a task.
pub const STEPS: usize = 4;
/// The most leases of a step. The budgets of an exploration stay below it.
pub const LEASES: u8 = 16;

/// The outcome of a dispatched step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Said {
    Success,
    Retryable,
    Permanent,
    Released,
}

impl Said {
    pub const ALL: [Self; 4] = [Self::Success, Self::Retryable, Self::Permanent, Self::Released];

    pub fn outcome(self, step: u8, lease: u8) -> Outcome {
        match self {
            Self::Success => Outcome::success(raw(result(step, lease)), None),
            Self::Retryable => Outcome::Failure(Failure::retryable("handler_error", "not now")),
            Self::Permanent => Outcome::Failure(Failure::permanent("permanent_error", "never")),
            Self::Released => Outcome::Released {},
        }
    }

    /// Its mark in the rows of `attempts`.
    pub fn mark(self) -> u8 {
        self as u8 + 1
    }
}

/// A result that names its lease, so that a wrong one is noticed.
pub fn result(step: u8, lease: u8) -> serde_json::Value {
    json!({"step": step, "lease": lease})
}

pub fn raw(value: serde_json::Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value is JSON")
}

/// The mark of a step whose worker was lost too often.
pub const CRASHED: u8 = 5;
/// Added to the mark of an outcome that was recorded and not applied.
pub const NOT_APPLIED: u8 = 8;

/// One call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// A worker's outcome arrives.
    Complete { step: u8, lease: u8, said: Said },
    /// A worker reports that it started, or still runs.
    Report { step: u8, lease: u8 },
    /// A sweep decides about a step whose deadline has passed.
    Conclude { step: u8, lease: u8, losses: u8 },
    /// The wake-up of a retry arrives, when it is due or before.
    Evaluate { step: u8, lease: u8, due: bool },
    /// The step's time passes, and a sweep takes it up.
    Sweep { step: u8 },
    /// An operator ends the task.
    Cancel,
    /// An operator gives the step a new budget.
    Retry { step: u8 },
    /// An operator resolves the step.
    Resolve { step: u8 },
}

impl Call {
    pub fn is_operators(self) -> bool {
        matches!(self, Self::Cancel | Self::Retry { .. } | Self::Resolve { .. })
    }
}

/// What a call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Of a completion.
    Applied(tasker_wire::Answer),
    /// An operator's action was carried out, or refused.
    Done,
    Conflict,
    /// A wake-up came before its time.
    Early,
    /// A step is silent after its deadline.
    Lost,
    /// The call has no answer.
    Nothing,
}

/// The effects of a call outside the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effects {
    pub answer: Answer,
    /// The steps whose messages are sent, under the leases that they have now.
    pub sent: u8,
    /// The step's retry is due later.
    pub wake_up: bool,
    pub finished: Option<TaskState>,
}

/// A row of `steps`, with its rows of `attempts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepRow {
    pub state: StepState,
    pub lease: u8,
    pub attempt: u8,
    pub pending_parents: u8,
    pub losses: u8,
    /// It is in progress, and its deadline has passed.
    pub due: bool,
    /// Four bits per lease: the mark of its outcome.
    pub marks: u64,
}

impl StepRow {
    pub fn mark(&self, lease: u8) -> u8 {
        (self.marks >> (4 * (lease - 1)) & 15) as u8
    }

    fn set_mark(&mut self, lease: u8, mark: u8) {
        assert_eq!(self.mark(lease), 0, "two rows of attempts for lease {lease}");
        self.marks |= u64::from(mark) << (4 * (lease - 1));
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, StepState::Complete | StepState::ResolvedManually)
    }

    fn dispatch(&mut self) {
        self.state = after(self.state, StepEvent::Dispatch).expect("only a step that may be dispatched is");
        self.lease += 1;
        assert!(self.lease <= LEASES, "the bounds allow more leases than the model holds");
        self.attempt = self.attempt.max(1);
        self.due = false;
    }
}

/// The rows of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rows {
    pub steps: [StepRow; STEPS],
    pub task: TaskState,
    pub active: i8,
    pub failed: i8,
}

impl Rows {
    /// Without the marks of old leases. They decide what a late completion is answered, and nothing else.
    pub fn without_past(mut self) -> Self {
        for step in self.steps.iter_mut().filter(|s| s.lease > 0) {
            step.marks &= 15 << (4 * (step.lease - 1));
        }
        self
    }
}

/// All outcomes, with one result that stands for every result.
static OUTCOMES: LazyLock<[Outcome; 4]> = LazyLock::new(|| Said::ALL.map(|said| said.outcome(0, 0)));
static STARTED: Outcome = Outcome::Started {};

/// A shape with a policy, and the product's verdicts on all outcomes under it.
#[derive(Debug)]
pub struct Model {
    pub shape: Shape,
    pub policy: Policy,
    said: Vec<Vec<Verdict<'static>>>,
    lost: Vec<Vec<Verdict<'static>>>,
    started: Verdict<'static>,
}

impl Model {
    pub fn new(shape: Shape, tries: u8) -> Self {
        // An hour: nothing is due unless a call says so.
        let backoff = Backoff { kind: BackoffKind::Linear, base_ms: 3_600_000, max_ms: 3_600_000 };
        let policy = Policy {
            max_attempts: tries.into(),
            retryable: true,
            backoff,
            timeout_seconds: 3600,
            result_schema: None,
            failure_effect: Default::default(),
        };
        let attempts = || 0..=i32::from(tries);
        let said = |said: Said| attempts().map(|a| decide(&OUTCOMES[said as usize], &policy, a, 0.5)).collect();
        let lost = |losses| attempts().map(|a| decide_lost(losses, &policy, a, 0.5)).collect();
        let (said, lost) = (Said::ALL.map(said).into(), (0..=limits::LOSSES).map(lost).collect());
        let started = decide(&STARTED, &policy, 1, 0.5);
        Self { shape, policy, said, lost, started }
    }

    /// The rows after a submit; the roots are dispatched.
    pub fn submitted(&self) -> Rows {
        let nothing =
            StepRow { state: StepState::Pending, lease: 0, attempt: 0, pending_parents: 0, losses: 0, due: false, marks: 0 };
        let mut rows = Rows { steps: [nothing; STEPS], task: TaskState::Running, active: 0, failed: 0 };
        for step in 0..self.shape.steps {
            rows.steps[step].pending_parents = self.shape.parents[step].count_ones() as u8;
        }
        for root in bits(self.roots()) {
            rows.steps[root].dispatch();
            rows.active += 1;
        }
        rows
    }

    pub fn roots(&self) -> u8 {
        (0..self.shape.steps).filter(|&step| self.shape.parents[step] == 0).fold(0, |set, step| set | 1 << step)
    }

    /// Carries out a call.
    pub fn apply(&self, rows: &mut Rows, call: Call) -> Effects {
        match call {
            Call::Complete { step, lease, said } => {
                let attempt = rows.steps[usize::from(step)].attempt;
                let verdict = &self.said[said as usize][usize::from(attempt)];
                self.conclude(rows, (step, lease), verdict, said.mark(), false)
            }
            Call::Report { step, lease } => self.conclude(rows, (step, lease), &self.started, 0, false),
            Call::Conclude { step, lease, losses } => {
                let attempt = rows.steps[usize::from(step)].attempt;
                let verdict = &self.lost[usize::from(losses) + 1][usize::from(attempt)];
                self.conclude(rows, (step, lease), verdict, CRASHED, true)
            }
            Call::Evaluate { step, lease, due } => evaluate(&mut rows.steps[usize::from(step)], (step, lease), due),
            Call::Sweep { step } => sweep(&mut rows.steps[usize::from(step)], step),
            Call::Cancel => self.cancel(rows),
            Call::Retry { step } => self.retry(rows, step.into()),
            Call::Resolve { step } => self.resolve(rows, step.into()),
        }
    }

    fn conclude(&self, rows: &mut Rows, (step, lease): (u8, u8), verdict: &Verdict<'_>, mark: u8, if_due: bool) -> Effects {
        let no = usize::from(step);
        let row = &mut rows.steps[no];
        let is_report = matches!(verdict, Verdict::Started(_) | Verdict::DispatchAgain(Again::WorkerLost));
        let fenced = row.lease != lease || !is_answerable(row.state) || if_due && !row.due;
        let Some(next) = after(row.state, verdict.into()).filter(|_| !fenced) else {
            return not_applied(row, lease, mark, is_report, if_due);
        };
        if !is_report {
            row.set_mark(lease, mark);
        }
        row.due = false;
        let mut effects = answer(Answer::Applied(tasker_wire::Answer::Accepted));
        let mut change = Change::default();
        match verdict {
            Verdict::Complete(_) | Verdict::Expand(..) => change = Change { active: -1, failed: 0, done: 1 << no },
            Verdict::Error { .. } => change = Change { active: -1, failed: 1, done: 0 },
            Verdict::Retry(..) => (row.losses, effects.wake_up) = (0, true),
            Verdict::DispatchAgain(again) => {
                row.losses += u8::from(matches!(again, Again::WorkerLost));
                row.dispatch();
                effects.sent = 1 << no;
            }
            Verdict::Started(_) | Verdict::AwaitCallback(_) => {}
        }
        row.state = next;
        self.advance(rows, change, effects)
    }

    fn advance(&self, rows: &mut Rows, mut change: Change, mut effects: Effects) -> Effects {
        for child in bits(change.done).flat_map(|parent| bits(self.shape.children[parent])) {
            let row = &mut rows.steps[child];
            if row.state != StepState::Pending {
                continue;
            }
            row.pending_parents -= 1;
            if row.pending_parents == 0 {
                row.dispatch();
                change.active += 1;
                effects.sent |= 1 << child;
            }
        }
        if (change.active, change.failed) == (0, 0) || !matches!(rows.task, TaskState::Running | TaskState::Error) {
            return effects;
        }
        rows.active += change.active;
        rows.failed += change.failed;
        rows.task = match (rows.active, rows.failed) {
            (0, 0) => TaskState::Complete,
            (0, _) => TaskState::Error,
            _ => TaskState::Running,
        };
        let ended = rows.active == 0 && (change.active < 0 || rows.task == TaskState::Complete);
        effects.finished = ended.then_some(rows.task);
        effects
    }

    fn cancel(&self, rows: &mut Rows) -> Effects {
        match rows.task {
            TaskState::Running => {}
            TaskState::Cancelled => return answer(Answer::Done),
            _ => return answer(Answer::Conflict),
        }
        for row in &mut rows.steps[..self.shape.steps] {
            if let Some(next) = after(row.state, StepEvent::Cancel) {
                (row.state, row.lease, row.due) = (next, row.lease + 1, false);
                rows.failed += 1;
            }
        }
        (rows.task, rows.active) = (TaskState::Cancelled, 0);
        Effects { finished: Some(TaskState::Cancelled), ..answer(Answer::Done) }
    }

    fn retry(&self, rows: &mut Rows, step: usize) -> Effects {
        let row = &mut rows.steps[step];
        if !matches!(rows.task, TaskState::Running | TaskState::Error) || after(row.state, StepEvent::Retry).is_none() {
            return answer(Answer::Conflict);
        }
        let failed = if row.state == StepState::WaitingForRetry { 0 } else { -1 };
        (row.state, row.attempt, row.losses) = (StepState::Pending, 0, 0);
        row.dispatch();
        let change = Change { active: if failed == 0 { 0 } else { 1 }, failed, done: 0 };
        self.advance(rows, change, Effects { sent: 1 << step, ..answer(Answer::Done) })
    }

    fn resolve(&self, rows: &mut Rows, step: usize) -> Effects {
        let row = &mut rows.steps[step];
        if row.state == StepState::ResolvedManually {
            // A repetition: every resolve here has the same result.
            return answer(Answer::Done);
        }
        let next = after(row.state, StepEvent::Resolve);
        let Some(next) = next.filter(|_| matches!(rows.task, TaskState::Running | TaskState::Error)) else {
            return answer(Answer::Conflict);
        };
        let (was_live, had_failed) = (is_live(row.state), row.state == StepState::Error);
        (row.state, row.lease, row.due) = (next, row.lease + 1, false);
        let change = Change { active: -i8::from(was_live), failed: -i8::from(had_failed), done: 1 << step };
        self.advance(rows, change, answer(Answer::Done))
    }
}

/// What a call changes of its task's counters, and the steps that are done now.
#[derive(Default)]
struct Change {
    active: i8,
    failed: i8,
    done: u8,
}

fn answer(answer: Answer) -> Effects {
    Effects { answer, sent: 0, wake_up: false, finished: None }
}

fn not_applied(row: &mut StepRow, lease: u8, mark: u8, is_report: bool, if_due: bool) -> Effects {
    if lease < row.lease && !is_report && !if_due && row.mark(lease) == 0 {
        row.set_mark(lease, mark + NOT_APPLIED);
    }
    answer(Answer::Applied(if !is_report && row.mark(lease) == mark {
        tasker_wire::Answer::Duplicate
    } else if lease > row.lease {
        tasker_wire::Answer::Refused
    } else if lease == row.lease && is_answerable(row.state) {
        tasker_wire::Answer::Ignored
    } else {
        tasker_wire::Answer::Stale
    }))
}

fn evaluate(row: &mut StepRow, (step, lease): (u8, u8), due: bool) -> Effects {
    if row.lease != lease || row.state != StepState::WaitingForRetry {
        return answer(Answer::Nothing);
    }
    if !due {
        return answer(Answer::Early);
    }
    row.dispatch();
    row.attempt += 1;
    Effects { sent: 1 << step, ..answer(Answer::Nothing) }
}

fn sweep(row: &mut StepRow, step: u8) -> Effects {
    match row.state {
        StepState::WaitingForRetry => evaluate(row, (step, row.lease), true),
        StepState::Enqueued => Effects { sent: 1 << step, ..answer(Answer::Nothing) },
        StepState::InProgress => {
            row.due = true;
            answer(Answer::Lost)
        }
        _ => answer(Answer::Nothing),
    }
}
