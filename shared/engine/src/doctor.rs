//! Compares what is stored with the facts, and reports every difference. It changes nothing.

use std::collections::BTreeMap;

use tasker_domain::{Created, Decided, GraphStep, template::Workflow};
use tasker_queue::Queue;
use tasker_store::{
    StoreError,
    doctor::{Difference, Examination, StoredGraph, StoredStep},
};
use tasker_wire::ids::step_no;
use uuid::Uuid;

use crate::Engine;

impl<Q: Queue> Engine<Q> {
    /// Compares all counters with their rows, and the steps of tasks with what was decided.
    pub async fn examine(&self) -> Result<Examination, StoreError> {
        let mut found = self.store.examine().await?;
        let templates = self.store.dynamic_templates().await?;
        let mut after = Uuid::nil();
        loop {
            let page = self.store.graphs(after, &templates).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = last.task;
            for graph in &page {
                if let Some(template) = self.templates.get(&self.store, &graph.template).await? {
                    differences(&template.workflow, graph).into_iter().for_each(|difference| found.push(difference));
                }
            }
        }
    }
}

fn differences(workflow: &Workflow, stored: &StoredGraph) -> Vec<Difference> {
    let mut differences = Vec::new();
    let decided = decided(workflow, stored, &mut differences);
    let mut expected: BTreeMap<i32, GraphStep> = workflow.graph(&decided).into_iter().map(|row| (row.no, row)).collect();
    for step in &stored.steps {
        let Some(row) = expected.remove(&step.row.no) else {
            differences.push(difference(stored, step, "step", Some("it exists".into()), None));
            continue;
        };
        let lists = [
            ("parents", &step.row.parents, &row.parents),
            ("children", &step.row.children, &row.children),
            ("further_ancestors", &step.row.further_ancestors, &row.further_ancestors),
        ];
        for (what, list, facts) in lists {
            let mut list = list.clone();
            list.sort_unstable();
            if list != *facts {
                differences.push(difference(stored, step, what, Some(shown(&list)), Some(shown(facts))));
            }
        }
    }
    let missing = |no| Difference {
        task: stored.task,
        no: Some(no),
        step: None,
        what: "step".into(),
        stored: None,
        facts: Some("it was decided".into()),
    };
    differences.extend(expected.into_keys().map(missing));
    differences
}

/// What the deciders made. A difference is a decider that is done and did not say what it made or says what it cannot have made, and
/// another step that says something of the kind.
fn decided(workflow: &Workflow, stored: &StoredGraph, differences: &mut Vec<Difference>) -> Decided {
    let mut decided = Decided::new();
    for step in &stored.steps {
        let decider = workflow.deciders().iter().copied().find(|&decider| step.is_done && step_no(decider) == step.row.no);
        let made = step.created.as_deref().zip(decider).and_then(|(made, at)| Created::from_numbers(workflow, at, made));
        match (decider, made) {
            (Some(decider), Some(made)) => drop(decided.insert(decider, made)),
            (None, None) if step.created.is_none() => {}
            (decider, _) => {
                let facts = decider.map(|_| "the step is done".into());
                differences.push(difference(stored, step, "created", step.created.as_deref().map(shown), facts));
            }
        }
    }
    decided
}

fn difference(graph: &StoredGraph, step: &StoredStep, what: &str, stored: Option<String>, facts: Option<String>) -> Difference {
    Difference { task: graph.task, no: Some(step.row.no), step: Some(step.name.clone()), what: what.into(), stored, facts }
}

/// As PostgreSQL writes an array.
fn shown(numbers: &[i32]) -> String {
    format!("{{{}}}", numbers.iter().map(i32::to_string).collect::<Vec<_>>().join(","))
}
