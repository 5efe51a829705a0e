//! The largest workflows. The times are printed, not checked.

use std::time::Instant;

use tasker_domain::{Created, Decided, template::StepKind};
use tasker_wire::{ids::step_no, limits};

use crate::shapes::Shape;

fn timed<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    println!("{what}: {:?}", start.elapsed());
    result
}

#[test]
fn a_decision_makes_as_many_steps_as_a_template_declares() {
    let branches = limits::STEPS - 3;
    let mut steps = vec![(StepKind::Standard, vec![]), (StepKind::Decision, vec![0])];
    steps.extend((0..branches).map(|_| (StepKind::Standard, vec![1])));
    steps.push((StepKind::DeferredConvergence, (2..limits::STEPS - 1).collect()));
    let workflow = timed("the workflow", || Shape(steps).workflow());
    let created = Created::Steps((2..limits::STEPS - 1).collect());
    let growth = timed("the growth by all but two steps", || workflow.growth(&Decided::new(), 1, &created));
    assert_eq!((growth.made.len(), growth.made[branches].parents.len()), (branches + 1, branches + 1));
    let decided = Decided::from([(1, created)]);
    let rows = timed("the graph of 10,000 steps", || workflow.graph(&decided));
    assert_eq!(rows.len(), limits::STEPS);
    let redo = timed("the redo of the decision", || workflow.redo(&decided, step_no(1)));
    assert_eq!((redo.reset, redo.deleted.len()), (vec![step_no(1)], branches + 1));
}

#[test]
fn a_batch_has_as_many_workers_as_a_task_may_have() {
    let steps = vec![
        (StepKind::Standard, vec![]),
        (StepKind::Batchable, vec![0]),
        (StepKind::BatchWorker, vec![1]),
        (StepKind::DeferredConvergence, vec![2]),
        (StepKind::DeferredConvergence, vec![0, 2]),
    ];
    let workflow = Shape(steps).workflow();
    let created = Created::Workers(limits::MADE_STEPS as u32);
    let growth = timed("the growth by 10,000 workers", || workflow.growth(&Decided::new(), 1, &created));
    assert_eq!((growth.made[0].parents.len(), growth.edges[0].1.len()), (10_001, 10_000));
    let decided = Decided::from([(1, created)]);
    let rows = timed("the graph of 10,000 workers", || workflow.graph(&decided));
    assert_eq!(rows.len(), 10_004);
    let redo = timed("the redo of the batch", || workflow.redo(&decided, step_no(0)));
    assert_eq!((redo.reset.len(), redo.deleted.len(), redo.parents.len()), (3, 10_001, 1));
}

#[test]
fn a_thousand_decisions_make_one_step_each() {
    let mut steps = vec![(StepKind::Standard, vec![])];
    for step in (1..2_000).step_by(2) {
        steps.push((StepKind::Decision, vec![0]));
        steps.push((StepKind::Standard, vec![step]));
    }
    steps.push((StepKind::DeferredConvergence, (2..=2_000).step_by(2).collect()));
    let workflow = timed("a workflow of 1,000 decisions", || Shape(steps).workflow());
    let mut decided = Decided::new();
    timed("a thousand growths", || {
        for decision in (1..2_000).step_by(2) {
            let created = Created::Steps(vec![decision + 1]);
            let growth = workflow.growth(&decided, decision, &created);
            assert_eq!(growth.made.len() + growth.edges.len(), 2, "the step, and the convergence or the edge to it");
            decided.insert(decision, created);
        }
    });
}
