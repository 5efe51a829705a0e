//! Reads a template key by key. This module checks each key by itself; `check` checks how keys fit together.
//!
//! After a fault a neutral value stands in, so that the rest is still read. A template with faults is then dropped.

use std::{cell::RefCell, collections::BTreeMap};

use semver::Version;

use super::{
    BACKOFF_BASE_MS, BatchConfig, Environment, EventDeclaration, HandlerOverlay, Lifecycle, MAX_BACKOFF_MS, Overlay, Retry, Step,
    Template,
};
use crate::{
    backoff::BackoffKind,
    reader::{Findings, Object, is_empty, kind_of, refuse_name, refuse_namespace, shown},
};
use tasker_wire::{Json, limits, message::Handler};

const NOT_READ: &str = "is not read; Tasker Core does not read it either";
const NOT_YET: &str = "is kept, but nothing acts on it yet";
const DESCRIBES: &str = "only describes; nothing acts on it";

pub(super) fn template(json: Json, findings: &RefCell<Findings>) -> Option<Template> {
    let mut file = Object::new(json, String::new(), findings)?;
    file.alias("namespace", "namespace_name");
    note_if_there(&mut file, "domain_events");
    let template = Template {
        name: file.required_checked("name", refuse_name),
        namespace: file.checked("namespace_name", refuse_namespace).unwrap_or_else(|| "default".to_owned()),
        version: version(&mut file),
        description: file.text("description"),
        identity_strategy: file.word("identity_strategy").unwrap_or_default(),
        input_schema: file.json("input_schema"),
        lifecycle: file.object("lifecycle").map(lifecycle),
        metadata: file.map("metadata"),
        domain_events: file.list("domain_events"),
        steps: file.objects("steps").into_iter().map(step).collect(),
        environments: environments(&mut file),
    };
    for key in ["system_dependencies", "task_handler"] {
        file.ignore(key, DESCRIBES);
    }
    for key in ["loaded_from", "schema", "step_templates", "task_handler_class", "handler_class", "composition"] {
        file.ignore(key, NOT_READ);
    }
    file.close();
    Some(template)
}

fn note_if_there(object: &mut Object, key: &'static str) {
    if object.peek(key).is_some_and(|json| !is_empty(json)) {
        object.note(key, NOT_YET);
    }
}

fn version(file: &mut Object) -> Version {
    let none = Version::new(0, 0, 0);
    if file.peek("version").is_some_and(|json| kind_of(json) == "a number") {
        file.value("version");
        file.fault("version", "is a number; write a version such as \"1.0.0\"");
        return none;
    }
    let text = file.required("version");
    if text.is_empty() {
        return none;
    }
    text.parse().unwrap_or_else(|error| {
        file.fault("version", format!("is {}, which is not a SemVer version such as 1.0.0: {error}", shown(&text)));
        none
    })
}

fn lifecycle(mut object: Object) -> Lifecycle {
    let lifecycle = Lifecycle {
        max_duration_minutes: object.number("max_duration_minutes", 1..=u32::MAX),
        max_waiting_for_dependencies_minutes: object.number("max_waiting_for_dependencies_minutes", 1..=u32::MAX),
        max_waiting_for_retry_minutes: object.number("max_waiting_for_retry_minutes", 1..=u32::MAX),
        max_steps_in_process_minutes: object.number("max_steps_in_process_minutes", 1..=u32::MAX),
        staleness_action: object.word("staleness_action").unwrap_or_default(),
    };
    for key in ["auto_fail_on_timeout", "auto_dlq_on_timeout"] {
        object.ignore(key, "is not read: staleness_action decides");
    }
    object.close();
    lifecycle
}

fn step(mut object: Object) -> Step {
    object.alias("step_type", "type");
    object.alias("depends_on", "dependencies");
    note_if_there(&mut object, "publishes_events");
    let step = Step {
        name: object.required_checked("name", refuse_name),
        description: object.text("description"),
        kind: object.word("type").unwrap_or_default(),
        dependencies: object.texts("dependencies", refuse_name),
        handler: handler(&mut object),
        worker: object.checked("worker", refuse_namespace),
        retry: retry(&mut object).unwrap_or_default(),
        timeout_seconds: timeout_seconds(&mut object).unwrap_or_else(super::timeout_seconds),
        result_schema: object.json("result_schema"),
        batch_config: object.object("batch_config").map(batch_config),
        publishes_events: object.objects("publishes_events").into_iter().map(event).collect(),
    };
    object.ignore("system_dependency", DESCRIBES);
    object.ignore("lifecycle", "is not read in a step; Tasker Core does not read it either");
    object.close();
    step
}

fn timeout_seconds(step: &mut Object) -> Option<u32> {
    step.number("timeout_seconds", 1..=limits::TIMEOUT_SECONDS)
}

fn handler(step: &mut Object) -> Handler {
    let none = Handler { callable: String::new(), method: String::new(), resolver: None, initialization: Default::default() };
    if step.peek("handler").is_none() {
        step.value("handler");
        step.fault("handler", "is missing; it names the code that runs the step: {callable: …}");
        return none;
    }
    let Some(mut object) = step.object("handler") else { return none };
    let handler = Handler {
        callable: object.required_checked("callable", refuse_name),
        method: object.checked("method", refuse_name).unwrap_or_else(|| "call".to_owned()),
        resolver: object.checked("resolver", refuse_name),
        initialization: object.map("initialization"),
    };
    if handler.resolver.is_some() {
        object.note("resolver", "is sent to the worker, but the SDKs look handlers up by callable and method alone");
    }
    object.close();
    handler
}

/// A block is complete: a missing key means the default, not the value that the block overrides.
fn retry(step: &mut Object) -> Option<Retry> {
    let mut object = step.object("retry")?;
    let backoff_base_ms = object.number("backoff_base_ms", 0..=limits::BACKOFF_MS).unwrap_or(BACKOFF_BASE_MS);
    let retry = Retry {
        retryable: object.flag("retryable").unwrap_or(true),
        max_attempts: max_attempts(&mut object),
        backoff: object.word("backoff").unwrap_or(BackoffKind::Exponential),
        backoff_base_ms,
        // The default cap must not be below a base that the file sets.
        max_backoff_ms: object.number("max_backoff_ms", 0..=limits::BACKOFF_MS).unwrap_or(MAX_BACKOFF_MS.max(backoff_base_ms)),
    };
    object.ignore("limit", "is not read, and Tasker Core does not read it either: write max_attempts");
    object
        .ignore("initial_delay", "is not read, and Tasker Core does not read it either: write backoff_base_ms, in milliseconds");
    object.ignore("max_delay", "is not read, and Tasker Core does not read it either: write max_backoff_ms, in milliseconds");
    object.close();
    Some(retry)
}

fn max_attempts(retry: &mut Object) -> u32 {
    let attempts = retry.number("max_attempts", 0..=limits::MAX_ATTEMPTS).unwrap_or(Retry::default().max_attempts);
    if attempts == 0 {
        retry.note("max_attempts", "0 is read as 1: every step has one attempt");
    }
    attempts.max(1)
}

fn batch_config(mut object: Object) -> BatchConfig {
    if object.peek("batch_size").is_some() {
        object.note("batch_size", DESCRIBES);
    }
    let config = BatchConfig {
        batch_size: object.number("batch_size", 1..=u32::MAX).unwrap_or(1_000),
        parallelism: object.number("parallelism", 1..=u32::MAX),
        cursor_field: object.checked("cursor_field", refuse_name).unwrap_or_else(super::cursor_field),
        worker_template: object.required_checked("worker_template", refuse_name),
        failure_strategy: object.word("failure_strategy").unwrap_or_default(),
    };
    object.ignore("checkpoint_interval", NOT_READ);
    object.close();
    config
}

fn event(mut object: Object) -> EventDeclaration {
    let event = EventDeclaration {
        name: object.required_checked("name", refuse_name),
        description: object.text("description"),
        schema: object.json("schema"),
        delivery_mode: object.word("delivery_mode").unwrap_or_default(),
        condition: object.word("condition").unwrap_or_default(),
        publisher: object.checked("publisher", refuse_name),
    };
    object.close();
    event
}

fn environments(file: &mut Object) -> BTreeMap<String, Environment> {
    let mut environments = BTreeMap::new();
    for (name, mut object) in file.objects_by_key("environments") {
        object.ignore("task_handler", DESCRIBES);
        let steps = object.objects("steps").into_iter().map(overlay).collect();
        object.close();
        environments.insert(name, Environment { steps });
    }
    environments
}

fn overlay(mut object: Object) -> Overlay {
    let overlay = Overlay {
        name: object.required_checked("name", refuse_name),
        handler: object.object("handler").map(|mut handler| {
            let initialization = handler.map("initialization");
            handler.close();
            HandlerOverlay { initialization }
        }),
        timeout_seconds: timeout_seconds(&mut object),
        retry: retry(&mut object),
    };
    object.close();
    overlay
}
