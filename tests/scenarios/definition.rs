//! What the rows of a task must be, by the definitions of the calls alone: after each call, who is ready, who has a place and what the task
//! is, is worked out anew. Nothing is counted along.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tasker_domain::{
    Created, Decided,
    template::{FailureStrategy, StepKind, Workflow},
};
use tasker_queue::Queue;
use tasker_wire::{
    Outcome, StepNo, StepState, TaskId, TaskState,
    ids::{NUMBERS_PER_POSITION, position, step_no},
};

use crate::rig::{Rig, failure, permanent, raw};

/// What a worker says of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// With what a decider makes.
    Success(Option<Created>),
    Permanent,
    Retryable,
    /// A checkpoint, or a step that was not run.
    Again,
    /// The handler runs.
    Started,
    /// The answer comes later, under the same lease.
    Callback,
}

impl Said {
    /// As the worker of a step says it.
    pub fn outcome(&self, workflow: &Workflow, no: StepNo) -> Outcome {
        let created = match self {
            Self::Success(created) => created,
            Self::Permanent => return permanent("no"),
            Self::Retryable => return failure("not now"),
            Self::Again => return Outcome::Released {},
            Self::Started => return Outcome::Started {},
            Self::Callback => return Outcome::PendingCallback { timeout_seconds: 3600 },
        };
        let (mut decision, mut batches) = (None, None);
        match created {
            Some(Created::Steps(steps)) => {
                let names: Vec<&str> = steps.iter().map(|step| workflow.steps[*step].name.as_str()).collect();
                decision = raw(json!({ "create": names }));
            }
            Some(Created::Workers(0)) => batches = raw(json!("no_batches")),
            Some(Created::Workers(workers)) => {
                let cursors: Vec<Value> = (0..*workers).map(|n| json!({"batch_id": n, "start": n, "end": n + 1})).collect();
                batches = raw(json!({ "cursors": cursors }));
            }
            None => {}
        }
        Outcome::Success { result: raw(json!({ "of": no })).unwrap(), metadata: None, decision, batches }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Answer(StepNo, i32, Said),
    Retry(StepNo),
    Redo(StepNo),
    Resolve(StepNo),
    Cancel,
    Reopen,
    ResolveTask,
    Pause,
    Resume,
    /// Everything that waits for a time is due.
    Sweep,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub state: StepState,
    pub lease: i32,
    pub tolerated: bool,
    /// By a pause.
    pub held: bool,
    /// Its answer comes later.
    pub is_awaited: bool,
    tries: u32,
    /// Of a worker: it need not wait for a place.
    has_place: bool,
}

impl Row {
    fn new(lease: i32) -> Self {
        Self { state: StepState::Pending, lease, tolerated: false, held: false, is_awaited: false, tries: 0, has_place: false }
    }

    pub fn is_live(&self) -> bool {
        matches!(self.state, StepState::Enqueued | StepState::InProgress)
    }

    /// As messages count them.
    pub fn tries(&self) -> i32 {
        self.tries.cast_signed()
    }

    fn is_done(&self) -> bool {
        matches!(self.state, StepState::Complete | StepState::ResolvedManually) || self.tolerated
    }

    /// It moves on without an operator.
    fn is_active(&self) -> bool {
        self.is_live() || self.state == StepState::WaitingForRetry || self.held
    }

    fn counts_as_failed(&self) -> bool {
        matches!(self.state, StepState::Error | StepState::Cancelled) && !self.tolerated
    }

    fn is_settled(&self) -> bool {
        matches!(self.state, StepState::Error | StepState::WaitingForRetry | StepState::Cancelled)
    }

    fn end(&mut self, state: StepState, raise: bool) {
        (self.state, self.lease) = (state, self.lease + i32::from(raise));
        (self.held, self.tolerated, self.is_awaited) = (false, false, false);
    }

    /// Pending, with a new budget.
    fn begin_anew(&mut self) {
        let raise = self.is_live();
        self.end(StepState::Pending, raise);
        self.tries = 0;
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub state: TaskState,
    pub paused: bool,
    pub rows: BTreeMap<StepNo, Row>,
    decided: Decided,
    /// The patterns whose batch a failure ended.
    shut: BTreeSet<usize>,
    lease_base: i32,
}

impl Definition {
    pub fn submitted(workflow: &Workflow) -> Self {
        let mut new = Self {
            state: TaskState::Running,
            paused: false,
            rows: BTreeMap::new(),
            decided: Decided::new(),
            shut: BTreeSet::new(),
            lease_base: 0,
        };
        new.settle(workflow);
        new
    }

    /// Carries out a call. False if it is refused, or changes nothing because an operator repeats it.
    pub fn apply(&mut self, workflow: &Workflow, call: &Call) -> bool {
        let is_open = matches!(self.state, TaskState::Running | TaskState::Error);
        match call {
            Call::Answer(no, lease, said) => {
                let may = |row: &Row| row.lease == *lease && row.is_live() && !(*said == Said::Started && row.is_awaited);
                if !self.rows.get(no).is_some_and(may) {
                    return false;
                }
                self.answer(workflow, *no, said);
            }
            Call::Retry(no) => {
                if !is_open || !self.rows[no].is_settled() || self.rows[no].tolerated && !self.are_children_pending(workflow, *no)
                {
                    return false;
                }
                self.reopen_batch(workflow, *no);
                self.row(*no).begin_anew();
                self.row(*no).has_place = true;
            }
            Call::Redo(no) => {
                let is_settled = self.rows[no].is_settled() || self.rows[no].is_done();
                if !(is_open || self.state == TaskState::Complete) || !is_settled {
                    return false;
                }
                self.redo(workflow, *no);
            }
            Call::Resolve(no) => {
                let may = !self.rows[no].is_done() || self.rows[no].tolerated;
                if !is_open || !may {
                    return false;
                }
                self.reopen_batch(workflow, *no);
                self.row(*no).end(StepState::ResolvedManually, true);
                self.decide(workflow, *no, None);
            }
            Call::Cancel if self.state == TaskState::Running => {
                self.state = TaskState::Cancelled;
                self.rows.values_mut().filter(|row| !row.state.is_finished()).for_each(|row| row.end(StepState::Cancelled, true));
            }
            Call::Reopen if matches!(self.state, TaskState::Error | TaskState::Cancelled) => {
                let cancelled: Vec<StepNo> = self.cancelled().collect();
                if cancelled.is_empty() {
                    return false;
                }
                self.revive(&cancelled);
                self.shut.clear();
                self.state = TaskState::Error;
            }
            Call::ResolveTask if self.state == TaskState::Error => self.state = TaskState::ResolvedManually,
            Call::Pause if self.state == TaskState::Running && !self.paused => self.paused = true,
            Call::Resume if self.state == TaskState::Running && self.paused => {
                self.paused = false;
                self.rows.values_mut().filter(|row| row.held).for_each(dispatch);
            }
            Call::Sweep => {
                let paused = self.paused;
                for row in self.rows.values_mut().filter(|row| row.state == StepState::WaitingForRetry) {
                    if paused {
                        row.held = true;
                    } else {
                        dispatch(row);
                    }
                }
            }
            _ => return false,
        }
        self.settle(workflow);
        true
    }

    /// The stored rows of the task are these.
    pub async fn compare<Q: Queue>(&self, rig: &Rig<Q>, task: TaskId, after: impl Fn() -> String) {
        let sql = "select t.state || ' ' || (t.paused_at is not null) || ' ' || t.total_steps, s.no,
                s.state || ' ' || s.lease || ' ' || s.tolerated || ' ' || (s.held_at is not null) || ' ' || s.awaits_callback
            from tasker.tasks t left join tasker.steps s using (task_id) where t.task_id = $1 order by s.no";
        let rows = rig.sql.query(sql, &[&task.uuid()]).await.unwrap();
        let of_task: String = rows[0].get(0);
        let of_steps: BTreeMap<StepNo, String> =
            rows.iter().filter_map(|row| Some((row.get::<_, Option<StepNo>>(1)?, row.get(2)))).collect();
        let text = |row: &Row| format!("{} {} {} {} {}", row.state, row.lease, row.tolerated, row.held, row.is_awaited);
        let defined: BTreeMap<StepNo, String> = self.rows.iter().map(|(no, row)| (*no, text(row))).collect();
        assert_eq!(of_task, format!("{} {} {}", self.state, self.paused, self.rows.len()), "after {}", after());
        assert_eq!(of_steps, defined, "after {}", after());
    }

    fn row(&mut self, no: StepNo) -> &mut Row {
        self.rows.get_mut(&no).unwrap()
    }

    fn cancelled(&self) -> impl Iterator<Item = StepNo> + '_ {
        self.rows.iter().filter(|(_, row)| row.state == StepState::Cancelled).map(|(no, _)| *no)
    }

    fn answer(&mut self, workflow: &Workflow, no: StepNo, said: &Said) {
        let step = &workflow.steps[position(no).unwrap()];
        match said {
            Said::Success(created) => {
                self.row(no).end(StepState::Complete, false);
                self.decide(workflow, no, created.clone());
            }
            Said::Again => self.row(no).end(StepState::Pending, false),
            Said::Started => self.row(no).state = StepState::InProgress,
            Said::Callback => (self.row(no).state, self.row(no).is_awaited) = (StepState::InProgress, true),
            Said::Retryable if self.rows[&no].tries < step.policy.max_attempts.unsigned_abs() => {
                self.row(no).end(StepState::WaitingForRetry, false);
            }
            Said::Permanent | Said::Retryable => {
                self.row(no).end(StepState::Error, false);
                match step.batch.as_ref().filter(|_| step.kind == StepKind::BatchWorker).map(|batch| batch.failure_strategy) {
                    Some(FailureStrategy::ContinueOnFailure) => self.row(no).tolerated = true,
                    Some(FailureStrategy::FailFast) => {
                        let siblings = self.siblings(no);
                        siblings.iter().filter(|other| **other != no).for_each(|other| {
                            let row = self.row(*other);
                            if row.is_active() {
                                row.end(StepState::Cancelled, true);
                            }
                        });
                        self.shut.insert(position(no).unwrap());
                    }
                    Some(FailureStrategy::Isolate) | None => {}
                }
            }
        }
    }

    /// The workers of the same batch, itself included; none of another step.
    fn siblings(&self, no: StepNo) -> Vec<StepNo> {
        let pattern = no - no % NUMBERS_PER_POSITION;
        let workers = self.rows.range(pattern + 1..pattern + NUMBERS_PER_POSITION).map(|(no, _)| *no);
        workers.filter(|_| no != pattern).collect()
    }

    fn decide(&mut self, workflow: &Workflow, no: StepNo, created: Option<Created>) {
        let at = position(no).unwrap();
        match workflow.steps[at].kind {
            StepKind::Decision => self.decided.insert(at, created.unwrap_or(Created::Steps(vec![]))),
            StepKind::Batchable => self.decided.insert(at, created.unwrap_or(Created::Workers(0))),
            _ => None,
        };
    }

    fn are_children_pending(&self, workflow: &Workflow, no: StepNo) -> bool {
        let graph = workflow.graph(&self.decided);
        let mut children = graph.iter().filter(|step| step.parents.contains(&no));
        children.all(|child| self.rows[&child.no].state == StepState::Pending)
    }

    fn revive(&mut self, cancelled: &[StepNo]) {
        for no in cancelled {
            self.row(*no).begin_anew();
            self.row(*no).has_place = false;
        }
    }

    /// The failure of a worker no longer ends its batch. Places are free for the others before the worker itself takes one.
    fn reopen_batch(&mut self, workflow: &Workflow, no: StepNo) {
        if self.rows[&no].state != StepState::Error || self.rows[&no].tolerated || self.siblings(no).is_empty() {
            return;
        }
        let cancelled: Vec<StepNo> =
            self.siblings(no).into_iter().filter(|other| self.rows[other].state == StepState::Cancelled).collect();
        self.revive(&cancelled);
        self.shut.remove(&position(no).unwrap());
        self.pass_places(workflow);
    }

    fn redo(&mut self, workflow: &Workflow, from: StepNo) {
        self.reopen_batch(workflow, from);
        let graph = workflow.graph(&self.decided);
        let mut after = BTreeSet::from([from]);
        for step in &graph {
            if step.parents.iter().any(|parent| after.contains(parent)) {
                after.insert(step.no);
            }
        }
        for no in &after {
            self.decided.remove(&position(*no).unwrap());
        }
        let left: BTreeSet<StepNo> = workflow.graph(&self.decided).into_iter().map(|step| step.no).collect();
        for no in after {
            if left.contains(&no) {
                self.row(no).begin_anew();
            } else {
                self.shut.remove(&position(no).unwrap());
                self.lease_base = self.lease_base.max(self.rows.remove(&no).unwrap().lease);
            }
        }
        self.row(from).has_place = true;
        self.state = TaskState::Error;
    }

    /// Makes the steps that exist by now, gives places, dispatches or holds what is ready, and says what the task is.
    fn settle(&mut self, workflow: &Workflow) {
        if !matches!(self.state, TaskState::Running | TaskState::Error) {
            return;
        }
        let graph = workflow.graph(&self.decided);
        for step in &graph {
            self.rows.entry(step.no).or_insert_with(|| Row::new(self.lease_base));
        }
        self.pass_places(workflow);
        for step in &graph {
            let is_ready = step.parents.iter().all(|parent| self.rows[parent].is_done());
            let (paused, row) = (self.paused, self.row(step.no));
            let has_place = step.no % NUMBERS_PER_POSITION == 0 || row.has_place;
            row.held &= row.state != StepState::Pending;
            if row.state != StepState::Pending || !is_ready || !has_place {
                continue;
            }
            if paused {
                row.held = true;
            } else {
                dispatch(row);
            }
        }
        let (active, failed) = (self.rows.values().any(Row::is_active), self.rows.values().any(Row::counts_as_failed));
        self.state = match (active, failed) {
            (true, _) => TaskState::Running,
            (false, true) => TaskState::Error,
            (false, false) => TaskState::Complete,
        };
    }

    /// The lowest workers that wait for a place get those that are free. A batch with a place for each worker has no places to wait for.
    fn pass_places(&mut self, workflow: &Workflow) {
        for (at, step) in workflow.steps.iter().enumerate().filter(|(_, step)| step.kind == StepKind::BatchWorker) {
            let workers = self.siblings(step_no(at) + 1);
            let places = step.batch.as_ref().unwrap().parallelism.map_or(usize::MAX, |places| places as usize);
            let is_bounded = places < workers.len();
            if is_bounded && self.shut.contains(&at) {
                continue;
            }
            let has_one = |row: &Row| row.is_active() || row.state == StepState::Pending && row.has_place;
            let taken = workers.iter().filter(|no| has_one(&self.rows[no])).count();
            let waiting = workers.into_iter().filter(|no| self.rows[no].state == StepState::Pending && !self.rows[no].has_place);
            for no in waiting.take(if is_bounded { places.saturating_sub(taken) } else { usize::MAX }).collect::<Vec<_>>() {
                self.row(no).has_place = true;
            }
        }
    }
}

fn dispatch(row: &mut Row) {
    let counts = row.tries == 0 || row.state == StepState::WaitingForRetry;
    (row.state, row.lease, row.held) = (StepState::Enqueued, row.lease + 1, false);
    row.tries += u32::from(counts);
}
