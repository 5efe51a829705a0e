//! The workflow of a task: a template's steps in topological order, with the overlays of one environment applied.

use std::collections::HashMap;

use jsonschema::Validator;
use semver::Version;
use serde_json::Value;

use super::{
    ALL, IdentityStrategy, Overlay, Retry, Step, StepKind, Template,
    batches::{self, Batch},
    schema,
};
use crate::{
    FailureEffect, Policy,
    backoff::Backoff,
    dynamic::possible::{self, Possible},
    graph,
};
use tasker_wire::{Fault, Faults, Json, limits, message::Handler};

/// With a longer timeout, a worker reports the start of a step, so that a deadline detects the loss of the worker.
const REPORTED_ABOVE_SECONDS: u32 = 60;

/// A template in one environment. Steps are identified by their position.
#[derive(Debug)]
pub struct Workflow {
    pub namespace: String,
    pub name: String,
    pub version: Version,
    pub identity_strategy: IdentityStrategy,
    /// See [`Workflow::refuse_context`].
    pub input_schema: Option<Validator>,
    /// In topological order: a parent's position is always lower.
    pub steps: Vec<WorkflowStep>,
    pub(crate) possible: Possible,
}

#[derive(Debug)]
pub struct WorkflowStep {
    pub name: String,
    pub kind: StepKind,
    /// Of a batchable step and of its pattern.
    pub batch: Option<Batch>,
    /// With the environment's settings.
    pub handler: Handler,
    /// The pool that runs it; absent for the default pool.
    pub worker: Option<String>,
    pub policy: Policy,
    pub report_start: bool,
    /// The positions of its dependencies, ascending: its parents, as far as they exist.
    pub parents: Vec<usize>,
    /// The positions of the deciders that are parents too, as far as they exist, ascending. See [`Workflow::graph`].
    pub guards: Vec<usize>,
    /// The positions of the steps that have it as a parent wherever they exist, ascending; of a pattern, those of its workers. Patterns
    /// are nobody's children.
    pub children: Vec<usize>,
    /// The positions of the nearest ancestors beyond the dependencies, ascending, as if all steps existed.
    pub further_ancestors: Vec<usize>,
}

impl Template {
    /// The workflow in `environment`. An environment that the template does not mention changes nothing.
    ///
    /// This does not fail for a template from [`super::parse`].
    pub fn workflow(&self, environment: &str) -> Result<Workflow, Faults> {
        let overlays = self.environments.get(environment).map_or(&[][..], |environment| &environment.steps);
        let by_file = parents(&self.steps)?;
        let order = graph::order(&by_file).map_err(|cycles| cyclic(&self.steps, &cycles))?;
        let partners = batches::partners(&self.steps, &by_file).map_err(Faults)?;
        let mut settings = settings(&self.steps, overlays);
        let parents = graph::in_order(&by_file, &order);
        let kinds: Vec<StepKind> = order.iter().map(|&index| self.steps[index].kind).collect();
        let (possible, mut guards) = Possible::of(&kinds, &parents)?;
        let mut children = possible::children(&kinds, &parents, &guards);
        let mut further = graph::further_ancestors(&parents, limits::FURTHER_ANCESTORS);
        let mut steps = Vec::with_capacity(order.len());
        for (position, (&index, parents)) in order.iter().zip(parents).enumerate() {
            let StepSettings { handler, timeout_seconds, retry } = settings[index].take().expect("an order has every step once");
            steps.push(WorkflowStep {
                name: self.steps[index].name.clone(),
                kind: self.steps[index].kind,
                batch: None,
                handler,
                worker: self.steps[index].worker.clone(),
                policy: policy(&self.steps[index], index, &retry, timeout_seconds)?,
                report_start: timeout_seconds > REPORTED_ABOVE_SECONDS,
                parents,
                guards: std::mem::take(&mut guards[position]),
                children: std::mem::take(&mut children[position]),
                further_ancestors: std::mem::take(&mut further[position]),
            });
        }
        join_batches(&mut steps, &self.steps, &order, &partners);
        Ok(Workflow {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            version: self.version.clone(),
            identity_strategy: self.identity_strategy,
            input_schema: compile(self.input_schema.as_ref(), "/input_schema")?,
            steps,
            possible,
        })
    }
}

impl Workflow {
    /// The faults of a task's context against the template's `input_schema`. Their places begin with `/context`.
    pub fn refuse_context(&self, context: &Value) -> Vec<Fault> {
        self.input_schema.as_ref().map(|schema| schema::mismatches(schema, context, "/context")).unwrap_or_default()
    }
}

/// The settings of a step that an environment may change.
struct StepSettings {
    handler: Handler,
    timeout_seconds: u32,
    retry: Retry,
}

impl StepSettings {
    fn apply(&mut self, overlay: &Overlay) {
        if let Some(handler) = &overlay.handler {
            self.handler.initialization.extend(handler.initialization.clone());
        }
        if let Some(seconds) = overlay.timeout_seconds {
            self.timeout_seconds = seconds;
        }
        if let Some(retry) = &overlay.retry {
            self.retry = retry.clone();
        }
    }
}

/// Every step's settings with all overlays applied in the order of the file.
fn settings(steps: &[Step], overlays: &[Overlay]) -> Vec<Option<StepSettings>> {
    let own = |step: &Step| StepSettings {
        handler: step.handler.clone(),
        timeout_seconds: step.timeout_seconds,
        retry: step.retry.clone(),
    };
    let mut settings: Vec<StepSettings> = steps.iter().map(own).collect();
    let index: HashMap<&str, usize> = steps.iter().enumerate().map(|(i, step)| (step.name.as_str(), i)).collect();
    for overlay in overlays {
        let range = match index.get(overlay.name.as_str()) {
            Some(&i) => i..i + 1,
            None if overlay.name == ALL => 0..steps.len(),
            None => 0..0,
        };
        settings[range].iter_mut().for_each(|settings| settings.apply(overlay));
    }
    settings.into_iter().map(Some).collect()
}

fn parents(steps: &[Step]) -> Result<Vec<Vec<usize>>, Faults> {
    let index: HashMap<&str, usize> = steps.iter().enumerate().map(|(i, step)| (step.name.as_str(), i)).collect();
    let parent = |name: &String| {
        let unknown = || Fault::new("/steps", format!("there is no step {name:?}"));
        index.get(name.as_str()).copied().ok_or_else(|| unknown().into())
    };
    steps.iter().map(|step| step.dependencies.iter().map(parent).collect()).collect()
}

fn cyclic(steps: &[Step], cycles: &[Vec<usize>]) -> Faults {
    let spelled = |cycle: &Vec<usize>| graph::spell(cycle, |step| &steps[step].name);
    Faults(cycles.iter().map(|cycle| Fault::new("/steps", format!("form a cycle: {}", spelled(cycle)))).collect())
}

/// Gives every batchable step and its pattern their batch. A pattern's configuration stands on either of them.
fn join_batches(steps: &mut [WorkflowStep], file: &[Step], order: &[usize], partners: &[Option<usize>]) {
    let position_of = graph::positions(order);
    for (pattern, &index) in order.iter().enumerate().filter(|&(_, &index)| file[index].kind == StepKind::BatchWorker) {
        let batchable_index = partners[index].expect("every pattern has a batchable step");
        let batchable = position_of[batchable_index];
        let config = file[index].batch_config.as_ref().or(file[batchable_index].batch_config.as_ref());
        let template_name = steps[batchable].handler.initialization.get("worker_template_name");
        let no_op_worker = template_name.is_some_and(|name| name.get().starts_with('"'));
        let batch = Batch::new(batchable, pattern, config, no_op_worker);
        steps[pattern].policy.failure_effect = batch.failure_effect();
        steps[batchable].batch = Some(batch.clone());
        steps[pattern].batch = Some(batch);
    }
}

fn policy(step: &Step, index: usize, retry: &Retry, timeout_seconds: u32) -> Result<Policy, Faults> {
    Ok(Policy {
        max_attempts: retry.max_attempts.clamp(1, limits::MAX_ATTEMPTS) as i32,
        retryable: retry.retryable,
        backoff: Backoff { kind: retry.backoff, base_ms: retry.backoff_base_ms, max_ms: retry.max_backoff_ms },
        timeout_seconds,
        result_schema: compile(step.result_schema.as_ref(), &format!("/steps/{index}/result_schema"))?,
        failure_effect: FailureEffect::default(),
    })
}

fn compile(schema: Option<&Json>, place: &str) -> Result<Option<Validator>, Faults> {
    schema.map(|schema| schema::compile(schema, place).map_err(Faults)).transpose()
}
