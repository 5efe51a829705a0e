//! Templates as files: everything that Tasker Core's own contain, and everything that may be wrong.

#![allow(clippy::unwrap_used)]

mod known;

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tasker_domain::{
    backoff::BackoffKind,
    template::{
        Batch, Condition, DeliveryMode, FailureStrategy, IdentityStrategy, Retry, StalenessAction, StepKind, Template, Workflow,
        WorkflowStep, parse,
    },
};
use tasker_wire::{Fault, Faults};

use known::Kind;

const GOOD: [&str; 11] = [
    "claim_linear",
    "leave_approval",
    "import_batches",
    "resize_images",
    "parcel_events",
    "refund_order",
    "old_keys",
    "boundaries",
    "our_keys",
    "before_0_1",
    "loose_ends",
];

/// Keys of the templates that Tasker Core ships, below those whose values are not looked at. The reader knows all others.
const KEYS_NOT_LOOKED_AT: &str = "
    metadata.author metadata.blog_post metadata.created_at metadata.documentation_url metadata.notes metadata.tags
    metadata.updated_at step_templates[].default_retry_limit step_templates[].default_retryable step_templates[].description
    step_templates[].handler_class step_templates[].handler_config step_templates[].name steps[].lifecycle.backoff_multiplier
    steps[].lifecycle.max_retries steps[].lifecycle.max_steps_in_process_minutes system_dependencies.primary
    system_dependencies.secondary";

/// Values of those templates that no list of the reader's holds.
const VALUES_NOT_LOOKED_AT: &str = "
    steps[].handler.method=validate steps[].handler.method=process steps[].handler.method=refund
    steps[].handler.method=execute_action steps[].handler.resolver=explicit_mapping system_dependencies.primary=default
    system_dependencies.primary=test_system system_dependencies.primary=payment_gateway
    steps[].publishes_events[].publisher=Logistics::Events::ParcelPublisher
    steps[].publishes_events[].publisher=payments.events.refund_publisher
    steps[].publishes_events[].publisher=refund_publisher steps[].handler.callable=Insurance::StepHandlers::CheckClaimHandler
    steps[].handler.callable=insurance.step_handlers.assess_claim steps[].handler.callable=pay_claim
    steps[].handler.callable=RefundHandler environments.*.steps[].name=ALL";

fn text(name: &str) -> String {
    fs::read_to_string(format!("{}/tests/fixtures/{name}.yaml", env!("CARGO_MANIFEST_DIR"))).expect(name)
}

fn good(name: &str) -> (Template, Vec<Fault>) {
    parse(&text(name)).unwrap_or_else(|faults| panic!("{name}: {faults}"))
}

fn lines(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

fn faults(yaml: &str) -> Vec<String> {
    let Faults(faults) = parse(yaml).expect_err(yaml);
    lines(&faults)
}

fn step_of<'w>(workflow: &'w Workflow, name: &str) -> &'w WorkflowStep {
    workflow.steps.iter().find(|step| step.name == name).expect(name)
}

#[test]
fn templates_of_every_kind_parse() {
    for name in GOOD {
        good(name);
    }
}

#[test]
fn the_fixtures_hold_every_key_that_the_reader_knows_and_every_key_of_taskers_templates() {
    let found = found();
    let known = known::objects();
    let paths = known.iter().flat_map(|object| object.keys.iter().map(|key| path(&object.path, &key.name)));
    let paths: Vec<String> = paths.chain(KEYS_NOT_LOOKED_AT.split_whitespace().map(str::to_owned)).collect();
    let missing: Vec<_> = paths.iter().filter(|path| !found.contains(*path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(known.len() > 10 && paths.len() > 90, "{} keys of {} objects", paths.len(), known.len());
}

#[test]
fn the_fixtures_hold_every_word_that_the_reader_knows_and_every_form_of_taskers_values() {
    let found = found();
    let mut missing: Vec<String> =
        VALUES_NOT_LOOKED_AT.split_whitespace().filter(|value| !found.contains(*value)).map(str::to_owned).collect();
    // An overlay's words are the step's.
    for object in known::objects().iter().filter(|object| !object.path.starts_with("environments")) {
        for key in &object.keys {
            let Kind::Words(words) = &key.kind else { continue };
            let values = words.iter().map(|word| format!("{}={word}", path(&object.path, &key.name)));
            missing.extend(values.filter(|value| !found.contains(value)));
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// The keys in the fixtures, with `*` for the name of an environment, and the texts as `key=text`.
fn found() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in GOOD {
        let value: Value = serde_saphyr::from_str(&text(name)).unwrap();
        collect(&value, "", &mut found);
    }
    found
}

fn path(object: &str, key: &str) -> String {
    if object.is_empty() { key.to_owned() } else { format!("{object}.{key}") }
}

fn collect(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| collect(value, &format!("{at}[]"), found)),
        Value::Object(map) => {
            for (key, value) in map {
                let at = path(at, if at == "environments" { "*" } else { key });
                collect(value, &at, found);
                found.insert(at);
            }
        }
        Value::String(text) => drop(found.insert(format!("{at}={text}"))),
        _ => {}
    }
}

#[test]
fn a_template_of_taskers_is_read_as_tasker_reads_it() {
    let (template, notes) = good("claim_linear");
    assert_eq!((template.name.as_str(), template.namespace.as_str()), ("settle_claim", "insurance"));
    assert_eq!(template.metadata["documentation_url"].get(), "null");
    let [check, assess, pay] = &template.steps[..] else { panic!() };
    assert_eq!(check.handler.initialization["window"].get(), r#""15_minutes""#);
    assert_eq!((assess.retry.max_attempts, assess.retry.backoff), (2, BackoffKind::Linear));
    assert_eq!((pay.retry.max_attempts, pay.retry.backoff_base_ms, pay.retry.max_backoff_ms), (3, 1_000, 30_000));
    assert_eq!((pay.handler.method.as_str(), pay.kind), ("call", StepKind::Standard));
    assert_eq!(lines(&notes), ["/system_dependencies: only describes; nothing acts on it"]);
}

#[test]
fn what_has_no_effect_is_noted_once_for_each_kind() {
    let (_, notes) = good("old_keys");
    let expected = [
        "/environments/test/steps/1/name: has no effect: there is no step \"prnt\"; did you mean \"print\"?",
        "/loaded_from: is not read; Tasker Core does not read it either",
        "/steps/0/lifecycle: is not read in a step; Tasker Core does not read it either",
        "/steps/0/retry/initial_delay: is not read, and Tasker Core does not read it either: write backoff_base_ms, in milliseconds",
        "/steps/0/retry/limit: is not read, and Tasker Core does not read it either: write max_attempts (3 places)",
        "/steps/0/retry/max_delay: is not read, and Tasker Core does not read it either: write max_backoff_ms, in milliseconds",
        "/steps/1/system_dependency: only describes; nothing acts on it",
        "/task_handler: only describes; nothing acts on it",
    ];
    assert_eq!(lines(&notes), expected);
    let noted = |name| lines(&good(name).1);
    assert!(noted("boundaries").contains(&"/steps/0/retry/max_attempts: 0 is read as 1: every step has one attempt".to_owned()));
    assert!(!noted("our_keys").iter().any(|note| note.starts_with("/lifecycle:")), "it is enforced");
    let events = [
        "/domain_events: is kept, but nothing acts on it yet",
        "/steps/0/publishes_events: is kept, but nothing acts on it yet (2 places)",
    ];
    assert_eq!(noted("parcel_events"), events);
    assert_eq!(noted("before_0_1").len(), 4);
    assert_eq!(noted("leave_approval"), Vec::<String>::new());
}

#[test]
fn the_old_forms_of_retries_leave_the_defaults() {
    let (template, _) = good("old_keys");
    assert_eq!(template.steps[0].retry, Retry::default(), "limit: 5, initial_delay: 2, max_delay: 60");
    assert_eq!(
        (Retry::default().max_attempts, Retry::default().backoff_base_ms, Retry::default().max_backoff_ms),
        (3, 1_000, 30_000)
    );
    let attempts = |environment: &str| {
        let workflow = template.workflow(environment).unwrap();
        let policy = |name| &step_of(&workflow, name).policy;
        (policy("gather").max_attempts, policy("print").max_attempts, policy("print").retryable)
    };
    assert_eq!(attempts("elsewhere"), (3, 3, false), "limit: 5 and limit: 1");
    assert_eq!(attempts("test"), (3, 3, false), "limit: 2");
    let (refund, _) = good("refund_order");
    let workflow = refund.workflow("test").unwrap();
    let policy = &step_of(&workflow, "pay_refund").policy;
    assert_eq!((policy.retryable, policy.max_attempts, policy.backoff.kind), (false, 3, BackoffKind::Linear), "limit: 9");
    assert_eq!((policy.backoff.base_ms, policy.backoff.max_ms), (1_000, 30_000));
}

#[test]
fn values_left_empty_are_absent_keys() {
    let text = text("loose_ends");
    assert!(!text.ends_with('\n'), "this file has no end of its last line");
    let (template, notes) = good("loose_ends");
    assert_eq!(notes, []);
    assert_eq!(template.description.as_deref(), Some("The first line,\n  the second one → indented.\n"));
    assert_eq!(template.metadata["created_at"].get(), r#""2025-11-28""#);
    assert!(template.input_schema.is_none() && template.domain_events.is_empty());
    let [empty, null_word] = &template.steps[..] else { panic!() };
    for step in [empty, null_word] {
        assert_eq!(
            (&step.dependencies[..], &step.retry, step.timeout_seconds),
            (&[][..], &Retry::default(), 30),
            "{}",
            step.name
        );
        assert!(step.publishes_events.is_empty() && step.batch_config.is_none() && step.handler.initialization.is_empty());
        assert_eq!((step.handler.method.as_str(), &step.handler.resolver), ("call", &None));
    }
    let policies = |environment| {
        let steps = template.workflow(environment).unwrap().steps;
        steps.iter().map(|step| (step.policy.timeout_seconds, step.policy.max_attempts)).collect::<Vec<_>>()
    };
    assert_eq!(policies("test"), [(30, 3), (30, 3)]);
    assert_eq!(policies("production"), [(9, 3), (30, 3)]);
}

#[test]
fn two_spellings_of_a_key_in_one_step_are_refused() {
    for (steps, expected) in [
        (
            "{name: a, type: standard, step_type: standard}",
            "/steps/0/step_type: is another name for type, which is also present; write type alone",
        ),
        (
            "{name: a}, {name: b, dependencies: [a], depends_on: [a]}",
            "/steps/1/depends_on: is another name for dependencies, which is also present; write dependencies alone",
        ),
    ] {
        assert_eq!(faults_of(steps), [expected]);
    }
    let both = "/namespace: is another name for namespace_name, which is also present; write namespace_name alone";
    assert_eq!(faults("{name: x, namespace: a, namespace_name: a, version: 1.0.0}"), [both]);
}

#[test]
fn events_have_taskers_defaults() {
    let (template, _) = good("refund_order");
    let declared = |step: usize| {
        let events = template.steps[step].publishes_events.iter();
        events
            .map(|event| (event.name.as_str(), event.delivery_mode, event.condition, event.publisher.as_deref()))
            .collect::<Vec<_>>()
    };
    let (validated, disturbed) = ("payments.events.refund_publisher", "refund_publisher");
    assert_eq!(
        declared(0),
        [
            ("refund.validated", DeliveryMode::Durable, Condition::Success, Some(validated)),
            ("refund.disturbed", DeliveryMode::Fast, Condition::RetryableFailure, Some(disturbed)),
        ]
    );
    assert_eq!(declared(2), [("refund.failed", DeliveryMode::Durable, Condition::Failure, None)]);
    let paid = &template.steps[2].publishes_events[0];
    assert_eq!(paid.description.as_deref(), Some("It was not paid"));
    assert_eq!(paid.schema.as_ref().unwrap().value(), json!({"type": "object"}));
}

#[test]
fn a_handler_is_read_with_its_method_in_every_form() {
    let (template, _) = good("refund_order");
    let handlers: Vec<_> =
        template.steps.iter().map(|step| (step.handler.callable.as_str(), step.handler.method.as_str())).collect();
    assert_eq!(
        handlers,
        [
            ("RefundHandler", "validate"),
            ("RefundHandler", "process"),
            ("RefundHandler", "refund"),
            ("NotificationHandler", "execute_action"),
        ]
    );
}

#[test]
fn our_own_keys_and_both_spellings_are_read() {
    let (template, _) = good("our_keys");
    assert_eq!(template.identity_strategy, IdentityStrategy::CallerProvided);
    assert_eq!(template.lifecycle.unwrap().staleness_action, StalenessAction::Error);
    let [first, second] = &template.steps[..] else { panic!() };
    assert_eq!(first.worker.as_deref(), Some("python"));
    assert_eq!(second.dependencies, ["first"]);
    assert_eq!(first.handler, second.handler);
    assert_eq!((first.handler.method.as_str(), first.handler.resolver.as_deref()), ("execute", Some("explicit_mapping")));
    let (without, _) = parse("{name: x, version: 1.0.0}").unwrap();
    assert_eq!((without.namespace.as_str(), without.identity_strategy), ("default", IdentityStrategy::Strict));
}

#[test]
fn boundary_values_are_accepted() {
    let (template, _) = good("boundaries");
    let [once, often, base] = &template.steps[..] else { panic!() };
    assert_eq!((once.retry.max_attempts, once.retry.backoff_base_ms, once.timeout_seconds), (1, 50, 1));
    assert_eq!((often.retry.max_attempts, often.retry.max_backoff_ms, often.timeout_seconds), (100, 86_400_000, 86_400));
    assert_eq!((base.retry.backoff_base_ms, base.retry.max_backoff_ms), (60_000, 60_000));
}

#[test]
fn an_overlay_changes_what_it_names_in_the_order_of_the_file() {
    let (template, _) = good("boundaries");
    let timeouts = |environment| {
        let steps = template.workflow(environment).unwrap().steps;
        steps.iter().map(|step| (step.policy.timeout_seconds, step.report_start)).collect::<Vec<_>>()
    };
    assert_eq!(timeouts("elsewhere"), [(1, false), (86_400, true), (30, false)]);
    assert_eq!(timeouts("staging"), timeouts("elsewhere"));
    assert_eq!(timeouts("test"), [(120, true), (7, false), (120, true)]);
    assert_eq!(timeouts("production"), [(61, true); 3]);
}

#[test]
fn an_overlay_replaces_retries_as_a_whole_and_settings_key_by_key() {
    let (boundaries, _) = good("boundaries");
    let workflow = boundaries.workflow("test").unwrap();
    let policy = &step_of(&workflow, "tried_once").policy;
    assert_eq!((policy.retryable, policy.max_attempts, policy.backoff.kind), (true, 2, BackoffKind::Exponential));
    let (ours, _) = good("our_keys");
    let workflow = ours.workflow("production").unwrap();
    let settings = serde_json::to_value(&step_of(&workflow, "second").handler.initialization).unwrap();
    assert_eq!(settings, json!({"threshold": 1000, "nested": {"c": 3}, "extra": null}));
    assert_eq!(step_of(&workflow, "first").handler.initialization["nested"].value(), json!({"a": 1, "b": 2}));
    let (claim, _) = good("claim_linear");
    let workflow = claim.workflow("test").unwrap();
    assert_eq!(
        (step_of(&workflow, "assess_claim").policy.max_attempts, step_of(&workflow, "check_claim").policy.max_attempts),
        (2, 1)
    );
    let timeouts = |name| step_of(&workflow, name).policy.timeout_seconds;
    assert_eq!((timeouts("assess_claim"), timeouts("check_claim")), (90, 5), "an empty value replaces nothing");
}

#[test]
fn a_batchable_step_and_its_pattern_share_their_batch() {
    let (mut template, _) = good("import_batches");
    let batch = |template: &Template, environment| {
        let workflow = template.workflow(environment).unwrap();
        let [count, pattern, sum] = &workflow.steps[..] else { panic!() };
        assert_eq!(
            [count.kind, pattern.kind, sum.kind],
            [StepKind::Batchable, StepKind::BatchWorker, StepKind::DeferredConvergence]
        );
        assert_eq!((&count.batch, &sum.batch), (&pattern.batch, &None));
        count.batch.clone().unwrap()
    };
    let mut expected = Batch {
        batchable: 0,
        pattern: 1,
        parallelism: Some(5),
        failure_strategy: FailureStrategy::ContinueOnFailure,
        cursor_field: "row_number".to_owned(),
        no_op_worker: false,
    };
    assert_eq!(batch(&template, ""), expected);
    template.steps[0].batch_config = template.steps[1].batch_config.take();
    assert_eq!(batch(&template, ""), expected, "the configuration may stand on the batchable step");
    template.steps[0].batch_config = None;
    (expected.parallelism, expected.cursor_field) = (None, "id".to_owned());
    assert_eq!(batch(&template, ""), expected);
    let overlay =
        json!({"steps": [{"name": "count_rows", "handler": {"initialization": {"worker_template_name": "import_batch"}}}]});
    template.environments.insert("test".to_owned(), serde_json::from_value(overlay).unwrap());
    assert_eq!(batch(&template, "test"), Batch { no_op_worker: true, ..expected });
}

#[test]
fn each_batch_of_a_template_has_its_own_configuration() {
    let (template, notes) = good("resize_images");
    let workflow = template.workflow("").unwrap();
    let batch = |name| step_of(&workflow, name).batch.clone().unwrap();
    let [photos, scans] = ["list_photos", "list_scans"].map(batch);
    assert_eq!(
        (photos.failure_strategy, photos.parallelism, photos.cursor_field.as_str()),
        (FailureStrategy::FailFast, Some(10), "item_index")
    );
    assert_eq!(
        (scans.failure_strategy, scans.parallelism, scans.cursor_field.as_str()),
        (FailureStrategy::Isolate, Some(1), "id")
    );
    assert_eq!(
        lines(&notes),
        [
            "/steps/1/batch_config/batch_size: only describes; nothing acts on it (2 places)",
            "/steps/1/batch_config/checkpoint_interval: is not read; Tasker Core does not read it either",
            "/system_dependencies: only describes; nothing acts on it",
        ]
    );
}

#[test]
fn a_plan_has_parents_before_children() {
    let yaml = "{name: x, version: 1.0.0, steps: [
        {name: d, dependencies: [c, b], handler: {callable: x}}, {name: b, dependencies: [a], handler: {callable: x}},
        {name: c, dependencies: [b], handler: {callable: x}}, {name: a, handler: {callable: x}}, {name: z, handler: {callable: x}}]}";
    let workflow = parse(yaml).unwrap().0.workflow("").unwrap();
    let names: Vec<_> = workflow.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "z"]);
    let d = &workflow.steps[3];
    assert_eq!((&d.parents[..], &d.children[..], &d.further_ancestors[..]), (&[1, 2][..], &[][..], &[0][..]));
    assert_eq!(workflow.steps[1].children, [2, 3]);
}

#[test]
fn the_largest_workflows_have_plans() {
    let handler = json!({"callable": "x"});
    let mut wide = vec![json!({"name": "root", "handler": handler})];
    wide.extend((0..9_998).map(|i| json!({"name": format!("w{i}"), "dependencies": ["root"], "handler": handler})));
    let all: Vec<_> = (0..9_998).map(|i| format!("w{i}")).collect();
    wide.push(json!({"name": "join", "dependencies": all, "handler": handler}));
    let chain: Vec<_> = (0..1_000)
        .map(|i| match i {
            0 => json!({"name": "c0", "handler": handler}),
            i => json!({"name": format!("c{i}"), "dependencies": [format!("c{}", i - 1)], "handler": handler}),
        })
        .collect();
    let workflow = |steps: Vec<Value>| {
        let text = json!({"name": "x", "version": "1.0.0", "steps": steps}).to_string();
        parse(&text).unwrap().0.workflow("").unwrap()
    };
    let wide = workflow(wide);
    assert_eq!((wide.steps[0].children.len(), wide.steps[9_999].parents.len()), (9_998, 9_998));
    assert_eq!(wide.steps[9_999].further_ancestors, [0]);
    let chain = workflow(chain);
    assert_eq!(chain.steps[999].further_ancestors, (966..998).collect::<Vec<_>>());
}

#[test]
fn too_many_steps_are_refused() {
    let steps: Vec<_> = (0..10_001).map(|i| json!({"name": format!("s{i}"), "handler": {"callable": "x"}})).collect();
    let text = json!({"name": "x", "version": "1.0.0", "steps": steps}).to_string();
    assert_eq!(faults(&text), ["/steps: has 10001 steps; at most 10000 are allowed"]);
}

#[test]
fn every_fault_of_a_file_is_found_at_once() {
    let expected = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/every_fault.txt")).unwrap();
    assert_eq!(faults(&text("every_fault")), expected.lines().collect::<Vec<_>>());
}

#[test]
fn a_cycle_is_spelled_out() {
    let yaml = "{name: x, version: 1.0.0, steps: [{name: a, dependencies: [b], handler: {callable: x}},
        {name: b, dependencies: [c], handler: {callable: x}}, {name: c, dependencies: [a], handler: {callable: x}}]}";
    assert_eq!(faults(yaml), ["/steps/0/dependencies: form a cycle: a -> b -> c -> a"]);
}

/// The faults of steps, each without its handler.
fn faults_of(steps: &str) -> Vec<String> {
    faults(&with_steps(steps))
}

fn with_steps(steps: &str) -> String {
    format!("{{name: x, version: 1.0.0, steps: [{}]}}", steps.replace("{name", "{handler: {callable: x}, name"))
}

#[test]
fn a_pattern_depends_on_its_batchable_step_alone() {
    let batch = "{name: a}, {name: b, type: batchable}, {name: w, type: batch_worker, dependencies";
    for (dependencies, expected) in [
        ("[]", "/steps/2/dependencies: a batch_worker step depends on the batchable step that its workers are made from"),
        (
            "[a]",
            "/steps/2/dependencies: a batch_worker step depends on the batchable step that its workers are made from; \"a\" is not \
             of this type",
        ),
        (
            "[a, b]",
            "/steps/2/dependencies: a batch_worker step depends on its batchable step alone; let the batchable step wait for the \
             others",
        ),
    ] {
        let lonely = "/steps/1/type: a batchable step needs a step of type batch_worker that depends on it";
        assert_eq!(faults_of(&format!("{batch}: {dependencies}}}")), [lonely, expected]);
    }
    assert!(parse(&with_steps(&format!("{batch}: [b]}}"))).is_ok());
}

#[test]
fn a_pattern_of_no_step_beside_another_batch_is_refused() {
    let batch = "{name: b, type: batchable}, {name: w, type: batch_worker, dependencies: [b]}";
    let steps = format!("{batch}, {{name: v, type: batch_worker, dependencies: [bb]}}, {{name: j, dependencies: [v]}}");
    assert_eq!(faults_of(&steps), ["/steps/2/dependencies/0: there is no step \"bb\""]);
}

#[test]
fn a_batchable_step_has_one_pattern() {
    let yaml = "{name: b, type: batchable}, {name: v, type: batch_worker, dependencies: [b]}, {name: w, type: batch_worker, dependencies: [b]}";
    let expected = "/steps/0/type: a batchable step has one step of type batch_worker that depends on it, not 2: \"v\", \"w\"";
    assert_eq!(faults_of(yaml), [expected]);
}

#[test]
fn a_batch_is_configured_once_and_for_its_own_pattern() {
    let steps = |of_batchable: &str, of_pattern: &str| {
        format!(
            "{{name: b, type: batchable{of_batchable}}}, {{name: w, type: batch_worker, dependencies: [b]{of_pattern}}},
             {{name: c, type: batchable}}, {{name: v, type: batch_worker, dependencies: [c]}}"
        )
    };
    let config = |template: &str, places: u32| format!(", batch_config: {{worker_template: {template}, parallelism: {places}}}");
    for (steps, expected) in [
        (steps("", &config("v", 1)), "/steps/1/batch_config/worker_template: is \"v\"; the workers are made from \"w\""),
        (steps(&config("v", 1), ""), "/steps/0/batch_config/worker_template: is \"v\"; the workers are made from \"w\""),
        (steps(&config("wv", 1), ""), "/steps/0/batch_config/worker_template: there is no step \"wv\" of type batch_worker"),
        (steps(&config("w", 1), &config("w", 2)), "/steps/0/batch_config: differs from /steps/1/batch_config; write it once"),
    ] {
        assert_eq!(faults_of(&steps), [expected]);
    }
    let (_, notes) = parse(&with_steps(&steps(&config("w", 1), &config("w", 1)))).unwrap();
    assert_eq!(notes, []);
    let elsewhere = with_steps("{name: a, batch_config: {worker_template: w}}");
    let note = "/steps/0/batch_config: has no effect: the step is neither of type batchable nor of type batch_worker";
    assert_eq!(lines(&parse(&elsewhere).unwrap().1), [note]);
}

#[test]
fn a_chain_of_too_many_decisions_is_spelled_out_once() {
    let chain = |decisions: usize| {
        let between =
            |i| format!(", {{name: d{i}, type: decision, dependencies: [s{i}]}}, {{name: s{}, dependencies: [d{i}]}}", i + 1);
        format!("{{name: s0}}{}", (0..decisions).map(between).collect::<String>())
    };
    assert!(parse(&with_steps(&chain(20))).is_ok());
    let names: Vec<String> = (0..21).map(|i| format!("d{i}")).collect();
    let expected =
        format!("/steps/41/dependencies: end a chain of 21 decisions; at most 20 may follow one another: {}", names.join(", "));
    assert_eq!(faults_of(&chain(30)), [expected]);
}

#[test]
fn a_step_under_two_decisions_is_noted() {
    let steps = |kind: &str| {
        format!(
            "{{name: a}}, {{name: d, type: decision, dependencies: [a]}}, {{name: e, type: decision, dependencies: [a]}},
             {{name: s, type: {kind}, dependencies: [d, e]}}"
        )
    };
    let notes = |kind| lines(&parse(&with_steps(&steps(kind))).unwrap().1);
    let note = "/steps/3/dependencies: contain several decisions: the step exists only if each of them names it";
    assert_eq!(notes("standard"), [note]);
    assert_eq!(notes("deferred_convergence"), Vec::<String>::new());
}

#[test]
fn convergences_of_too_many_decisions_are_refused() {
    let decision = |i| format!(", {{name: d{i}, type: decision, dependencies: [a]}}, {{name: b{i}, dependencies: [d{i}]}}");
    let branches: Vec<String> = (0..1_000).map(|i| format!("b{i}")).collect();
    let join = |i| format!(", {{name: j{i}, type: deferred_convergence, dependencies: [{}]}}", branches.join(", "));
    let steps = |joins: usize| {
        format!("{{name: a}}{}{}", (0..1_000).map(decision).collect::<String>(), (0..joins).map(join).collect::<String>())
    };
    assert!(parse(&with_steps(&steps(100))).is_ok());
    let expected = "/steps: have convergences that wait for 101000 decisions and batches in all; at most 100000 are allowed. Let fewer \
                    convergences follow the same decisions";
    assert_eq!(faults_of(&steps(101)), [expected]);
}

#[test]
fn keys_as_ruby_symbols_are_refused_with_the_right_spelling() {
    let found = faults(&text("ruby_symbols"));
    assert!(found.contains(&"/:name: unknown key: Ruby symbols are not supported, write name".to_owned()), "{found:?}");
}

#[test]
fn a_file_that_is_not_a_map_is_rejected() {
    for yaml in ["", "[]", "5", "text", "null", "- a\n- b"] {
        assert_eq!(faults(yaml).len(), 1, "{yaml}");
    }
}

#[test]
fn a_context_is_validated_against_the_input_schema() {
    let workflow = good("claim_linear").0.workflow("production").unwrap();
    assert_eq!(workflow.refuse_context(&json!({"claim_id": "c-1", "amount": 5})), []);
    let faults = lines(&workflow.refuse_context(&json!({"amount": -1, "kind": "boat"})));
    let places: Vec<_> = faults.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["/context", "/context/amount", "/context/kind"]);
}

#[test]
fn the_keywords_of_a_schema_refuse_and_its_format_and_default_only_describe() {
    let workflow = good("refund_order").0.workflow("").unwrap();
    let refused = |context: Value| lines(&workflow.refuse_context(&context));
    let with = |key: &str, value: Value| {
        let mut context = json!({"order_id": "o-1", "email": "a@example.com"});
        context[key] = value;
        context
    };
    assert_eq!(refused(with("lines", json!(["a"]))), Vec::<String>::new());
    for (key, value, expected) in [
        ("order_id", json!("x-1"), r#"/context/order_id: "x-1" does not match "^o-[0-9]+$""#),
        ("percent", json!(101), "/context/percent: 101 is greater than the maximum of 100"),
        ("percent", json!(0), "/context/percent: 0 is less than the minimum of 1"),
        ("lines", json!(["a", 5]), "/context/lines/1: 5 is not of type \"string\""),
        ("lines", json!([""]), "/context/lines/0: \"\" is shorter than 1 character"),
    ] {
        assert_eq!(refused(with(key, value)), [expected]);
    }
    assert_eq!(refused(with("email", json!("no address"))), Vec::<String>::new(), "a format describes");
}

#[test]
fn a_recursive_schema_does_not_loop_forever() {
    let yaml = "{name: x, version: 1.0.0, input_schema: {allOf: [{$ref: '#'}]}}";
    let workflow = parse(yaml).unwrap().0.workflow("").unwrap();
    assert_eq!(workflow.refuse_context(&json!({})), []);
}

#[test]
fn the_stored_form_is_taskers_and_reads_as_itself() {
    for name in GOOD {
        let (template, _) = good(name);
        let stored = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&stored).unwrap(), template, "{name}");
        assert_eq!(parse(&stored).unwrap_or_else(|faults| panic!("{name}: {faults}")).0, template, "{name}");
        assert_eq!(parse(&serde_saphyr::to_string(&template).unwrap()).unwrap().0, template, "{name}");
    }
    let stored = serde_json::to_value(good("our_keys").0).unwrap();
    assert_eq!((&stored["namespace_name"], &stored["version"]), (&json!("default"), &json!("10.20.30-rc.1")));
    assert_eq!((&stored["steps"][1]["type"], &stored["steps"][1]["dependencies"]), (&json!("standard"), &json!(["first"])));
}

#[test]
fn the_digest_ignores_comments_and_ignored_keys() {
    let digest = |yaml: &str| parse(yaml).unwrap().0.sha256();
    let text = text("claim_linear");
    assert_eq!(digest(&text), digest(&format!("{text}\n# a remark\nloaded_from: elsewhere\n")));
    assert_ne!(digest(&text), digest(&text.replace("timeout_seconds: 45", "timeout_seconds: 46")));
}

#[test]
fn settings_keep_every_digit_in_all_environments_and_through_the_stored_definition() {
    let digits = "12345678901234567890123";
    let yaml = format!(
        "{{name: x, version: 1.0.0, metadata: {{m: {digits}}}, input_schema: {{maximum: {digits}}},
          steps: [{{name: a, handler: {{callable: a, initialization: {{limit: {digits}, deep: [{{x: -{digits}}}]}}}}}}],
          environments: {{test: {{steps: [{{name: ALL, handler: {{initialization: {{limit: {digits}4}}}}}}]}}}}}}"
    );
    let (template, _) = parse(&yaml).unwrap();
    let stored = serde_json::to_string(&template).unwrap();
    let template: Template = serde_json::from_str(&stored).unwrap();
    assert_eq!(parse(&stored).unwrap().0, template, "a definition can be registered again");
    let settings = |environment| {
        let workflow = template.workflow(environment).unwrap();
        serde_json::to_string(&step_of(&workflow, "a").handler.initialization).unwrap()
    };
    assert_eq!(settings("elsewhere"), format!(r#"{{"deep":[{{"x":-{digits}}}],"limit":{digits}}}"#));
    assert_eq!(settings("test"), format!(r#"{{"deep":[{{"x":-{digits}}}],"limit":{digits}4}}"#));
    assert_eq!(
        (template.metadata["m"].get(), template.input_schema.as_ref().unwrap().get()),
        (digits, &*format!(r#"{{"maximum":{digits}}}"#))
    );
    let other = parse(&yaml.replace("90123", "90124")).unwrap().0;
    assert_ne!(other.sha256(), template.sha256(), "another number is another content");
}

#[test]
fn a_schema_compares_integers_of_64_bits_exactly_and_other_numbers_as_doubles() {
    let accepts = |schema: &str, value: &str| {
        let (template, _) =
            parse(&format!("{{name: x, version: 1.0.0, input_schema: {{properties: {{n: {schema}}}}}}}")).unwrap();
        let context = serde_json::from_str(&format!(r#"{{"n": {value}}}"#)).unwrap();
        template.workflow("test").unwrap().refuse_context(&context).is_empty()
    };
    for (schema, value, accepted) in [
        ("{maximum: 9007199254740992}", "9007199254740993", false),
        ("{const: 9007199254740992}", "9007199254740993", false),
        ("{enum: [18446744073709551614]}", "18446744073709551615", false),
        ("{multipleOf: 2}", "9007199254740993", false),
        ("{type: integer}", "1000000000000000000001", true),
        ("{multipleOf: 0.01}", "0.07", true),
        // Beyond 64 bits, as doubles.
        ("{maximum: 1000000000000000000000}", "1000000000000000000001", true),
        ("{const: 1000000000000000000000}", "1000000000000000000001", true),
        ("{uniqueItems: true}", "[1000000000000000000000, 1000000000000000000001]", false),
    ] {
        assert_eq!(accepts(schema, value), accepted, "{schema} {value}");
    }
}
