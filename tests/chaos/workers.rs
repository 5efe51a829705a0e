//! Scripted workers: they end every attempt as the model says, and their results contain the lease and what the handler saw.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{json, value::RawValue};
use tasker_domain::Created;
use tasker_wire::{CompleteStep, Outcome, RunStep, StepNo, limits, outcome::Failure};

use crate::{
    driver::Task,
    faults::{Fault, Faults},
    hash::{digest, hash},
    model::{self, End, Workflow},
    queue::place_of,
};

/// Longer than a seed lasts.
const CALLBACK_SECONDS: u32 = 20 * 24 * 3600;

type Raw = Box<RawValue>;

pub struct Workers {
    seed: u64,
    faults: Arc<Faults>,
    /// How often each dispatched step was run.
    runs: HashMap<(usize, StepNo, i32), u64>,
    /// The leases under which a start was reported, by attempt.
    started: HashMap<(usize, StepNo, usize, i32), BTreeSet<i32>>,
    /// Whether some handlers answer by callback. Their answers must outlive the process.
    callbacks: bool,
    /// Every outcome that was sent.
    pub answers: Vec<CompleteStep>,
}

/// What a worker does with a message.
#[derive(Default)]
pub struct Act {
    /// A report of its start, or that it will answer by callback.
    pub report: Option<CompleteStep>,
    /// Its outcome. None: it died.
    pub answer: Option<CompleteStep>,
    /// How long it takes.
    pub ms: u64,
    /// Nothing loses the answer. A callback that does not come uses up an attempt, and the model has none of these.
    pub is_certain: bool,
}

impl Workers {
    pub fn new(seed: u64, faults: Arc<Faults>) -> Self {
        Self { seed, faults, runs: HashMap::new(), started: HashMap::new(), callbacks: false, answers: Vec::new() }
    }

    pub fn with_callbacks(self) -> Self {
        Self { callbacks: true, ..self }
    }

    pub fn run(&mut self, run: &RunStep, tasks: &[Task]) -> Act {
        let (place, step) = (place_of(run.context.get()).expect("a task knows its place"), run.step_id.no);
        let times = self.runs.entry((place, step, run.lease)).or_default();
        *times += 1;
        let times = *times;
        let h = hash(&[self.seed, 5, place as u64, step as u64, run.lease as u64, times]);
        let budget = tasks[place].actions.budget(step, run.lease);
        let may_fail = !self.faults.enough();

        let mut act = Act { ms: h / 1000 % 3_000, ..Act::default() };
        if run.report_start && self.may_report(run, (place, step, budget, run.attempt)) {
            act.report = Some(run.complete(Outcome::Started {}, "scripted", 0));
        }
        match h % 1000 {
            0..35 if may_fail => {
                self.faults.note(Fault::WorkerDied);
                return act;
            }
            35..65 if may_fail => {
                self.faults.note(Fault::LateAnswer);
                act.ms = 101_000 + h / 1000 % 200_000;
            }
            _ => {}
        }
        let outcome = if times > 1 && run.resend > 0 && (h / 7).is_multiple_of(3) {
            self.faults.note(Fault::Released);
            Outcome::Released {}
        } else {
            self.outcome(run, &tasks[place].workflow, (place, step, budget), times)
        };
        let is_final = matches!(outcome, Outcome::Success { .. } | Outcome::Failure(_));
        if self.callbacks && is_final && (h / 11).is_multiple_of(8) {
            act.report = Some(run.complete(Outcome::PendingCallback { timeout_seconds: CALLBACK_SECONDS }, "scripted", 0));
            (act.is_certain, act.ms) = (true, act.ms + h / 13 % 100_000);
        }
        let answer = run.complete(outcome, "scripted", act.ms);
        self.answers.push(answer.clone());
        act.answer = Some(answer);
        act
    }

    /// A third loss uses up an attempt, and the model has no losses. So fewer than three leases of an attempt report their start.
    fn may_report(&mut self, run: &RunStep, of_try: (usize, StepNo, usize, i32)) -> bool {
        let leases = self.started.entry(of_try).or_default();
        leases.contains(&run.lease) || leases.len() < limits::LOSSES as usize - 1 && leases.insert(run.lease)
    }

    fn outcome(&self, run: &RunStep, workflow: &Workflow, (place, step, budget): (usize, StepNo, usize), times: u64) -> Outcome {
        // A second run does not stop again, so that a success may come under the lease before that of the dispatch after the checkpoint.
        if times == 1 && run.checkpoint.is_none() && model::checkpoints(self.seed, place, step, run.attempt) {
            let cursor = raw(&json!({"lease": run.lease}));
            return Outcome::Checkpoint { cursor, items_processed: 1, accumulated: None };
        }
        let message = format!("lease {} run {times}", run.lease);
        match model::end(self.seed, place, step, budget, run.attempt) {
            End::Failure => Outcome::Failure(Failure::retryable("handler_error", message)),
            End::Permanent => Outcome::Failure(Failure::permanent("permanent_error", message)),
            End::Success => {
                let saw: BTreeMap<&String, u64> =
                    run.dependency_results.iter().map(|(name, result)| (name, digest(result.get()))).collect();
                // Two runs under one lease have different results half of the time.
                let times = times / 2;
                let result = json!({"lease": run.lease, "attempt": run.attempt, "times": times, "saw": saw});
                let (decision, batches) = self.made(run, workflow, (place, budget));
                Outcome::Success { result: raw(&result), metadata: None, decision, batches }
            }
        }
    }

    /// What a decision or a batchable step says that it makes.
    fn made(&self, run: &RunStep, workflow: &Workflow, (place, budget): (usize, usize)) -> (Option<Raw>, Option<Raw>) {
        let at = run.step_id.position().expect("a step of a workflow");
        let steps = &workflow.parsed().steps;
        match workflow.created((self.seed, place), at, budget) {
            Some(Created::Steps(named)) => {
                let names: Vec<&str> = named.iter().map(|&child| steps[child].name.as_str()).collect();
                (Some(raw(&json!({ "create": names }))), None)
            }
            Some(Created::Workers(0)) => (None, Some(raw(&json!("no_batches")))),
            Some(Created::Workers(workers)) => {
                let cursors: Vec<_> =
                    (0..workers).map(|n| json!({"batch_id": n.to_string(), "start": n, "end": n + 1})).collect();
                (None, Some(raw(&json!({ "cursors": cursors }))))
            }
            _ => (None, None),
        }
    }
}

fn raw(value: &serde_json::Value) -> Raw {
    RawValue::from_string(value.to_string()).expect("a value is JSON")
}
