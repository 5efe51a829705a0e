//! A small workflow by its rows.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::sync::Arc;

use serde_json::value::RawValue;
use tasker_domain::{Verdict, token::TemplateRef};
use tasker_store::{Completion, DispatchSettings, NewTask, Store, TemplateRows};
use tasker_test_support::Database;
use tasker_wire::{TaskId, ids::step_no, message::Lease, outcome::Failure};
use uuid::Uuid;

pub const SETTINGS: DispatchSettings = DispatchSettings { send_ms: None, bodies: 100, input_bytes: 1 << 20 };

pub fn store(database: &Database) -> Store {
    Store::new(&database.url, 2).unwrap()
}

/// Steps by name, each with the positions of its parents.
pub fn template(steps: &[(&str, &[usize])]) -> Arc<TemplateRows> {
    let literal = |nos: Vec<usize>| format!("{{{}}}", nos.iter().map(|&p| step_no(p).to_string()).collect::<Vec<_>>().join(","));
    let mut children = vec![Vec::new(); steps.len()];
    for (child, (_, parents)) in steps.iter().enumerate() {
        parents.iter().for_each(|&parent| children[parent].push(child));
    }
    Arc::new(TemplateRows {
        template: TemplateRef { template_id: Uuid::nil(), environment: "test".into() },
        identity: ["ns".into(), "name".into(), "1.0.0".into()],
        no: (0..steps.len()).map(step_no).collect(),
        name: steps.iter().map(|s| s.0.to_owned()).collect(),
        max_attempts: vec![3; steps.len()],
        parents: steps.iter().map(|s| literal(s.1.to_vec())).collect(),
        children: children.into_iter().map(literal).collect(),
        further_ancestors: vec!["{}".into(); steps.len()],
        roots: steps.iter().filter(|s| s.1.is_empty()).count() as i32,
    })
}

/// A task of that template.
pub async fn submit(store: &Store, rows: &Arc<TemplateRows>, initiator: &str) -> TaskId {
    let new = NewTask {
        task: TaskId::from_fresh(Uuid::now_v7()),
        rows: rows.clone(),
        identity: None,
        context: raw(r#"{"n": 1.0}"#).into(),
        priority: Some(5),
        tags: vec!["a".into()],
        initiator: initiator.into(),
        source_system: "test".into(),
        reason: "why not".into(),
        correlation_id: Uuid::from_u128(7),
        parent_correlation_id: None,
        traceparent: None,
    };
    store.submit(&[new], SETTINGS).await.unwrap().remove(0).task
}

/// Applies a verdict on the step at a position, under its first leases.
pub async fn complete(store: &Store, task: TaskId, position: usize, lease: i32, verdict: Verdict<'_>) {
    let key = Lease { step: task.step(step_no(position)), number: lease };
    let by_orchestrator = Completion::by_orchestrator(key, lease, verdict);
    let completion = Completion { worker: "w".into(), duration_ms: 12, ..by_orchestrator };
    store.complete(&[completion], SETTINGS).await.unwrap();
}

pub fn done(result: &str) -> Verdict<'_> {
    Verdict::Complete(serde_json::from_str(result).unwrap())
}

pub fn failed(retryable: bool) -> Verdict<'static> {
    let failure = Failure { delay_seconds: Some(2.5), ..Failure::permanent("broken", "it broke") };
    if retryable { Verdict::Retry(60_000, failure) } else { Verdict::Error { failure, effect: Default::default() } }
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.into()).unwrap()
}
