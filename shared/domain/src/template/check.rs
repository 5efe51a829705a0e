//! Checks how the parts of a template fit together: names, dependencies, schemas, overlays. `kinds` checks what the types of steps
//! require.

use std::collections::HashMap;

use super::{ALL, Step, Template, kinds, schema};
use crate::{
    graph, near,
    reader::{Findings, shown},
};
use tasker_wire::{Fault, Json, limits};

/// Reports every fault. An empty name replaces one that was faulty when it was read; it is not reported again.
pub(super) fn template(template: &Template, findings: &mut Findings) {
    if template.steps.len() > limits::STEPS {
        findings.fault("/steps", format!("has {} steps; at most {} are allowed", template.steps.len(), limits::STEPS));
        return;
    }
    let index = names(&template.steps, findings);
    let parents = dependencies(&template.steps, &index, findings);
    let order = graph::order(&parents);
    for cycle in order.as_ref().err().into_iter().flatten() {
        let name = |step: usize| template.steps[step].name.as_str();
        findings.fault(dependencies_of(cycle[0]), format!("form a cycle: {}", graph::spell(cycle, name)));
    }
    kinds::kinds(&template.steps, &index, &parents, order.ok().as_deref(), findings);
    schemas(template, findings);
    overlays(template, &index, findings);
}

/// The indexes of steps by name. A duplicate name is a fault.
fn names<'t>(steps: &'t [Step], findings: &mut Findings) -> HashMap<&'t str, usize> {
    let mut index = HashMap::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate().filter(|(_, step)| !step.name.is_empty()) {
        if step.name == ALL {
            findings.fault(format!("/steps/{i}/name"), "must not be ALL, which means every step in an environment");
        }
        if let Some(first) = index.get(step.name.as_str()) {
            findings.fault(format!("/steps/{i}/name"), format!("is {}, as is /steps/{first}/name", shown(&step.name)));
            continue;
        }
        index.insert(step.name.as_str(), i);
    }
    index
}

/// The parents of every step. A dependency that is unknown, a duplicate, or the step itself is a fault and is left out.
fn dependencies(steps: &[Step], index: &HashMap<&str, usize>, findings: &mut Findings) -> Vec<Vec<usize>> {
    let mut seen_by = vec![usize::MAX; steps.len()];
    let mut parents = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        if step.dependencies.len() > limits::PARENTS {
            let message = format!("are {}; at most {} are allowed", step.dependencies.len(), limits::PARENTS);
            findings.fault(dependencies_of(i), message);
        }
        let mut known = Vec::with_capacity(step.dependencies.len());
        for (at, name) in step.dependencies.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let refusal = match index.get(name.as_str()) {
                None => unknown(name, steps),
                Some(_) if *name == step.name => "the step depends on itself".to_owned(),
                Some(&parent) if seen_by[parent] == i => format!("the step {} is a duplicate", shown(name)),
                Some(&parent) => {
                    seen_by[parent] = i;
                    known.push(parent);
                    continue;
                }
            };
            findings.fault(format!("{}/{at}", dependencies_of(i)), refusal);
        }
        parents.push(known);
    }
    parents
}

pub(super) fn dependencies_of(step: usize) -> String {
    format!("/steps/{step}/dependencies")
}

fn unknown(name: &str, steps: &[Step]) -> String {
    match near(name, steps.iter().map(|step| step.name.as_str())) {
        Some(guess) => format!("there is no step {}; did you mean {guess:?}?", shown(name)),
        None => format!("there is no step {}", shown(name)),
    }
}

fn schemas(template: &Template, findings: &mut Findings) {
    let mut check = |schema: &Option<Json>, place: String| {
        let faults = schema.as_ref().and_then(|schema| schema::compile(schema, &place).err());
        for Fault { place, message } in faults.into_iter().flatten() {
            findings.fault(place, message);
        }
    };
    check(&template.input_schema, "/input_schema".to_owned());
    for (i, step) in template.steps.iter().enumerate() {
        check(&step.result_schema, format!("/steps/{i}/result_schema"));
        for (j, event) in step.publishes_events.iter().enumerate() {
            check(&event.schema, format!("/steps/{i}/publishes_events/{j}/schema"));
        }
    }
}

/// Notes overlays of unknown steps. They have no effect; some of Tasker's own templates have them, so they are no faults.
fn overlays(template: &Template, index: &HashMap<&str, usize>, findings: &mut Findings) {
    for (environment, overlay) in &template.environments {
        for (i, step) in overlay.steps.iter().enumerate().filter(|(_, step)| !step.name.is_empty()) {
            if step.name != ALL && !index.contains_key(step.name.as_str()) {
                let place = tasker_wire::fault::pointer("/environments", environment);
                let message = format!("has no effect: {}", unknown(&step.name, &template.steps));
                findings.note(format!("{place}/steps/{i}/name"), &message);
            }
        }
    }
}
