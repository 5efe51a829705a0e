//! Scripted workers: they end every attempt as the model says, and their results contain the lease and what the handler saw.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{json, value::RawValue};
use tasker_wire::{CompleteStep, Outcome, RunStep, StepId, limits, outcome::Failure};

use crate::{
    driver::Task,
    faults::{Fault, Faults},
    hash::{digest, hash},
    model::{self, End, Workflow},
    queue::place_of,
};

pub struct Workers {
    seed: u64,
    faults: Arc<Faults>,
    /// How often each dispatched step was run.
    runs: HashMap<(usize, usize, i32), u64>,
    /// The leases under which a start was reported, by attempt.
    started: HashMap<(usize, usize, usize, i32), BTreeSet<i32>>,
    /// The position in its workflow of every step that was run.
    steps: HashMap<StepId, usize>,
    /// Every outcome that was sent.
    pub answers: Vec<CompleteStep>,
}

/// What a worker does with a message.
#[derive(Default)]
pub struct Act {
    /// A report of its start.
    pub report: Option<CompleteStep>,
    /// Its outcome. None: it died.
    pub answer: Option<CompleteStep>,
    /// How long it takes.
    pub ms: u64,
}

impl Workers {
    pub fn new(seed: u64, faults: Arc<Faults>) -> Self {
        Self { seed, faults, runs: HashMap::new(), started: HashMap::new(), steps: HashMap::new(), answers: Vec::new() }
    }

    pub fn run(&mut self, run: &RunStep, tasks: &[Task]) -> Act {
        let (place, step) = (place_of(run.context.get()).expect("a task knows its place"), step_of(&run.step_name));
        self.steps.insert(run.step_id, step);
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
        let answer = run.complete(outcome, "scripted", act.ms);
        self.answers.push(answer.clone());
        act.answer = Some(answer);
        act
    }

    /// The position of a step in its workflow, if it was run.
    pub fn step(&self, id: StepId) -> Option<usize> {
        self.steps.get(&id).copied()
    }

    /// A third loss uses up an attempt, and the model has no losses. So fewer than three leases of an attempt report their start.
    fn may_report(&mut self, run: &RunStep, of_try: (usize, usize, usize, i32)) -> bool {
        let leases = self.started.entry(of_try).or_default();
        leases.contains(&run.lease) || leases.len() < limits::LOSSES as usize - 1 && leases.insert(run.lease)
    }

    fn outcome(&self, run: &RunStep, workflow: &Workflow, (place, step, budget): (usize, usize, usize), times: u64) -> Outcome {
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
                let named =
                    || workflow.children(step).filter(|&child| model::names(self.seed, place, step, child)).map(model::step_name);
                let decision = workflow.steps[step].decides.then(|| raw(&json!({"create": named().collect::<Vec<_>>()})));
                Outcome::Success { result: raw(&result), metadata: None, decision, batches: None }
            }
        }
    }
}

/// The position of a step in its workflow.
pub fn step_of(name: &str) -> usize {
    name[1..].parse().expect("a step is named by its place")
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value is JSON")
}
