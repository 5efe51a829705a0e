//! Random tasks: chains, fans, joins, and graphs without any order but that of their numbers.

use std::sync::Arc;

use serde_json::value::RawValue;
use tasker_domain::{graph, token::TemplateRef};
use tasker_store::{NewTask, TemplateRows};
use tasker_test_support::Chance;
use tasker_wire::{TaskId, ids::step_no};
use uuid::Uuid;

/// Namespaces and templates, which pauses name.
pub const NAMES: [(&str, &str); 3] = [("one", "a"), ("one", "b"), ("other", "a")];
pub const MAX_ATTEMPTS: i32 = 2;
/// Further ancestors of a step.
const FURTHER: [usize; 4] = [0, 4, 32, 100];

/// A template, by the parents of each step.
pub fn rows(chance: &mut Chance) -> Arc<TemplateRows> {
    let parents = parents(chance);
    let children = graph::children(&parents);
    let further = graph::further_ancestors(&parents, FURTHER[chance.below(FURTHER.len())]);
    let lists = |of: &[Vec<usize>]| of.iter().map(|list| literal(list)).collect::<Vec<_>>();
    let (namespace, name) = NAMES[chance.below(NAMES.len())];
    Arc::new(TemplateRows {
        template: TemplateRef { template_id: Uuid::nil(), environment: "test".into() },
        identity: [namespace.into(), name.into(), "1.0.0".into()],
        no: (0..parents.len()).map(step_no).collect(),
        name: (0..parents.len()).map(|n| format!("s{n}")).collect(),
        max_attempts: vec![MAX_ATTEMPTS; parents.len()],
        parents: lists(&parents),
        children: lists(&children),
        further_ancestors: lists(&further),
        roots: parents.iter().filter(|p| p.is_empty()).count() as i32,
    })
}

fn parents(chance: &mut Chance) -> Vec<Vec<usize>> {
    let any = 1 + chance.below(30);
    match chance.below(21) {
        0 => Vec::new(),
        // More ancestors than a function for ordinary calls reads for a message by itself.
        1..=2 => join(70),
        3..=5 => (0..any).map(|n| (0..n).rev().take(1).collect()).collect(),
        6..=9 => join(1 + chance.below(5)),
        10..=12 => join(any),
        _ => (0..any)
            .map(|n| {
                let several = chance.below(5);
                let mut parents: Vec<usize> = (0..several).map(|_| chance.below(n)).filter(|&p| p < n).collect();
                parents.sort_unstable();
                parents.dedup();
                parents
            })
            .collect(),
    }
}

/// One step, `width` after it, and one after all of them.
fn join(width: usize) -> Vec<Vec<usize>> {
    let mut parents = vec![Vec::new()];
    parents.extend((0..width).map(|_| vec![0]));
    parents.push((1..=width).collect());
    parents
}

fn literal(positions: &[usize]) -> String {
    let numbers: Vec<String> = positions.iter().map(|&n| step_no(n).to_string()).collect();
    format!("{{{}}}", numbers.join(","))
}

/// A task of such a template, under an id.
pub fn task(chance: &mut Chance, rows: &Arc<TemplateRows>, task: TaskId) -> NewTask {
    let number = chance.number();
    NewTask {
        task,
        rows: rows.clone(),
        identity: chance.permille(500).then(|| std::array::from_fn(|n| (number >> (n % 8)) as u8)),
        context: RawValue::from_string(format!("{{\"number\" : {number}.50}}")).unwrap().into(),
        priority: chance.permille(300).then_some(3),
        tags: if chance.permille(300) { vec!["a,\"b\\".into(), String::new()] } else { Vec::new() },
        initiator: "me".into(),
        source_system: "here".into(),
        reason: "because".into(),
        correlation_id: Uuid::from_u128(number.into()),
        parent_correlation_id: chance.permille(300).then_some(Uuid::nil()),
        traceparent: chance.permille(300).then(|| "00-1".into()),
    }
}
