//! Property tests of templates: printing and parsing gives the same template, and no input makes the reader panic.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs};

use proptest::prelude::*;
use serde_json::{Map, Value};
use tasker_domain::{
    backoff::BackoffKind,
    template::{Environment, HandlerOverlay, IdentityStrategy, Overlay, Retry, Step, StepKind, Template, parse},
};
use tasker_wire::{Json, message::Handler};

/// Text with whatever YAML may trip over, except control characters that it cannot hold unescaped.
const TEXT: &str = "[\\PC\n\t]{0,12}";
const KEY: &str = "[\\PC\n\t]{1,8}";

fn name() -> impl Strategy<Value = String> {
    "\\PC{1,12}".prop_filter("ALL means every step", |name| name != "ALL")
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        TEXT.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from), map_of(inner).prop_map(Value::Object),]
    })
}

fn map_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map(KEY, value, 0..4).prop_map(|map| map.into_iter().collect())
}

fn settings() -> impl Strategy<Value = BTreeMap<String, Json>> {
    prop::collection::btree_map(KEY, any_value(), 0..4)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key, Json::from(&value))).collect())
}

fn retry() -> impl Strategy<Value = Retry> {
    let kinds = prop_oneof![
        Just(BackoffKind::None),
        Just(BackoffKind::Linear),
        Just(BackoffKind::Exponential),
        Just(BackoffKind::Fibonacci)
    ];
    (any::<bool>(), 1..=100_u32, kinds, 0..=86_400_000_u64, 0..=86_400_000_u64).prop_map(
        |(retryable, max_attempts, backoff, base, max)| Retry {
            retryable,
            max_attempts,
            backoff,
            backoff_base_ms: base,
            max_backoff_ms: max,
        },
    )
}

fn handler() -> impl Strategy<Value = Handler> {
    (name(), name(), prop::option::of(name()), settings()).prop_map(|(callable, method, resolver, initialization)| Handler {
        callable,
        method,
        resolver,
        initialization,
    })
}

/// Steps of which each depends on some of those before it, shuffled.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (handler(), retry(), 1..=86_400_u32, prop::option::of("[a-z0-9_-]{1,29}"), any::<u16>());
    prop::collection::btree_map(name(), step, 0..8).prop_flat_map(|steps| {
        let names: Vec<String> = steps.keys().cloned().collect();
        let step = |(i, (name, (handler, retry, timeout_seconds, worker, mask))): (usize, (String, (_, _, _, _, u16)))| Step {
            name,
            description: None,
            kind: StepKind::Standard,
            dependencies: (0..i).filter(|bit| mask >> bit & 1 == 1).map(|bit| names[bit].clone()).collect(),
            handler,
            worker,
            retry,
            timeout_seconds,
            result_schema: None,
            batch_config: None,
            publishes_events: Vec::new(),
        };
        Just(steps.into_iter().enumerate().map(step).collect::<Vec<_>>()).prop_shuffle()
    })
}

fn environment() -> impl Strategy<Value = Environment> {
    let handler = prop::option::of(settings().prop_map(|initialization| HandlerOverlay { initialization }));
    let overlay =
        (prop_oneof![Just("ALL".to_owned()), name()], handler, prop::option::of(1..=86_400_u32), prop::option::of(retry()))
            .prop_map(|(name, handler, timeout_seconds, retry)| Overlay { name, handler, timeout_seconds, retry });
    prop::collection::vec(overlay, 0..3).prop_map(|steps| Environment { steps })
}

fn template() -> impl Strategy<Value = Template> {
    let strategies =
        prop_oneof![Just(IdentityStrategy::Strict), Just(IdentityStrategy::CallerProvided), Just(IdentityStrategy::AlwaysUnique)];
    let environments = prop::collection::btree_map(KEY, environment(), 0..3);
    let description = prop::option::of(TEXT);
    (name(), "[a-z0-9_-]{1,29}", any::<[u64; 3]>(), description, strategies, settings(), steps(), environments).prop_map(
        |(name, namespace, [major, minor, patch], description, identity_strategy, metadata, steps, environments)| Template {
            name,
            namespace,
            version: format!("{major}.{minor}.{patch}").parse().unwrap(),
            description,
            identity_strategy,
            input_schema: None,
            lifecycle: None,
            metadata,
            domain_events: Vec::new(),
            steps,
            environments,
        },
    )
}

fn fixture() -> impl Strategy<Value = String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    prop::sample::select(paths).prop_map(|path| fs::read_to_string(path).unwrap())
}

proptest! {
    #[test]
    fn a_printed_template_parses_to_itself(template in template()) {
        let json = serde_json::to_string(&template).unwrap();
        prop_assert_eq!(&parse(&json).unwrap().0, &template);
        let yaml = serde_saphyr::to_string(&serde_json::from_str::<Value>(&json).unwrap()).unwrap();
        prop_assert_eq!(&parse(&yaml).map_err(|faults| TestCaseError::fail(format!("{faults}\n{yaml}")))?.0, &template);
    }

    #[test]
    fn every_template_has_a_plan_for_every_environment(template in template()) {
        for environment in template.environments.keys() {
            let workflow = template.workflow(environment).unwrap();
            prop_assert_eq!(workflow.steps.len(), template.steps.len());
            for (position, step) in workflow.steps.iter().enumerate() {
                prop_assert!(step.parents.iter().chain(&step.further_ancestors).all(|&ancestor| ancestor < position));
                prop_assert!(step.further_ancestors.iter().all(|ancestor| !step.parents.contains(ancestor)));
                prop_assert!(step.children.iter().all(|&child| workflow.steps[child].parents.contains(&position)));
            }
        }
    }

    #[test]
    fn junk_never_panics(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn damaged_files_never_panic(text in fixture(), lines in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4)) {
        let mut damaged: Vec<&str> = text.lines().collect();
        for (from, to) in lines {
            let line = damaged.remove(from.index(damaged.len()));
            let to = to.index(damaged.len() + 1);
            damaged.insert(to, line);
        }
        let _ = parse(&damaged.join("\n"));
    }

    #[test]
    fn values_of_the_wrong_kind_never_panic(text in fixture(), at in any::<prop::sample::Index>(), value in any_value()) {
        let mut file: Value = serde_saphyr::from_str(&text).unwrap();
        let mut pointers = Vec::new();
        collect(&file, String::new(), &mut pointers);
        *file.pointer_mut(&pointers[at.index(pointers.len())]).unwrap() = value;
        let _ = parse(&file.to_string());
    }
}

fn collect(value: &Value, pointer: String, pointers: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(i, value)| collect(value, format!("{pointer}/{i}"), pointers)),
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(value, format!("{pointer}/{key}"), pointers)),
        _ => {}
    }
    pointers.push(pointer);
}
