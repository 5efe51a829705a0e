//! Workflows of the kinds that Tasker Core's own tests run.

use tasker_domain::{Created, Decided, template::Workflow};
use tasker_wire::StepNo;

use crate::shapes::workflow;

/// An amount is approved by one step, by another, or by two.
pub fn approval() -> Workflow {
    workflow(
        "{name: close, type: deferred_convergence, dependencies: [at_once, manager, finance], handler: {callable: x}},
         {name: check, handler: {callable: x}},
         {name: route, type: decision, dependencies: [check], handler: {callable: x}},
         {name: at_once, dependencies: [route], handler: {callable: x}},
         {name: manager, dependencies: [route], handler: {callable: x}},
         {name: finance, dependencies: [route], handler: {callable: x}}",
    )
}

/// A data set is divided, worked on, and summed up.
pub fn dataset() -> Workflow {
    workflow(
        "{name: analyze, type: batchable, handler: {callable: x, initialization: {worker_template_name: work}}},
         {name: work, type: batch_worker, dependencies: [analyze], handler: {callable: x},
          batch_config: {batch_size: 1000, parallelism: 10, cursor_field: id, worker_template: work, failure_strategy: fail_fast}},
         {name: sum, type: deferred_convergence, dependencies: [work], handler: {callable: x}}",
    )
}

/// A diamond, a decision after it, and a batch behind each of its two ways.
pub fn diamond() -> Workflow {
    let way = |way: &str| {
        format!(
            ", {{name: {way}_analyze, type: batchable, dependencies: [route], handler: {{callable: x}}}},
             {{name: {way}_work, type: batch_worker, dependencies: [{way}_analyze], handler: {{callable: x}}}},
             {{name: {way}_sum, type: deferred_convergence, dependencies: [{way}_work], handler: {{callable: x}}}}"
        )
    };
    workflow(&format!(
        "{{name: start, handler: {{callable: x}}}},
         {{name: evens, dependencies: [start], handler: {{callable: x}}}}, {{name: odds, dependencies: [start], handler: {{callable: x}}}},
         {{name: route, type: decision, dependencies: [evens, odds], handler: {{callable: x}}}}{}{}",
        way("even"),
        way("odd")
    ))
}

/// What deciders made, by name: the names that a decision gave, or the number of workers.
pub fn decided(workflow: &Workflow, made: &[(&str, Result<u32, &[&str]>)]) -> Decided {
    let position = |name: &str| workflow.steps.iter().position(|step| step.name == name).unwrap();
    let created = |made: &Result<u32, &[&str]>| match made {
        Ok(workers) => Created::Workers(*workers),
        Err(names) => {
            let mut named: Vec<usize> = names.iter().map(|name| position(name)).collect();
            named.sort_unstable();
            Created::Steps(named)
        }
    };
    made.iter().map(|(name, made)| (position(name), created(made))).collect()
}

/// The name of a row, with a worker's number behind that of its pattern.
pub fn name(workflow: &Workflow, no: StepNo) -> String {
    let step = &workflow.steps[no as usize / 16_384 - 1];
    match no % 16_384 {
        0 => step.name.clone(),
        worker => format!("{}_{worker}", step.name),
    }
}

pub fn names(workflow: &Workflow, numbers: &[StepNo]) -> String {
    numbers.iter().map(|&no| name(workflow, no)).collect::<Vec<_>>().join(" ")
}
