//! What the outcomes of deciders make, in our own shapes and in Tasker Core's, and why they make nothing.

use proptest::prelude::*;
use serde_json::{Value, json, value::to_raw_value};
use tasker_domain::{Created, Expansion, template::Workflow};
use tasker_wire::{Outcome, limits};

use crate::{
    samples::{approval, dataset, diamond},
    shapes::workflow,
};

/// A success by its JSON, in which `result` may be left out.
fn success(mut success: Value) -> Outcome {
    success.as_object_mut().unwrap().entry("result").or_insert(json!({}));
    serde_json::from_str(&json!({"success": success}).to_string()).unwrap()
}

fn position(workflow: &Workflow, name: &str) -> usize {
    workflow.steps.iter().position(|step| step.name == name).expect(name)
}

fn expansion(workflow: &Workflow, step: &str, said: Value) -> Expansion {
    let outcome = success(said.clone());
    workflow.expansion(position(workflow, step), &outcome).unwrap_or_else(|failure| panic!("{said}: {}", failure.message))
}

fn refusal(workflow: &Workflow, step: &str, said: Value) -> String {
    let failure = workflow.expansion(position(workflow, step), &success(said.clone())).err().unwrap_or_else(|| panic!("{said}"));
    assert_eq!((failure.error_type.as_str(), failure.retryable), ("invalid_outcome", false));
    failure.message
}

fn named(workflow: &Workflow, said: Value) -> Vec<String> {
    let Created::Steps(steps) = expansion(workflow, "route", said).created else { panic!("a decision names steps") };
    steps.into_iter().map(|step| workflow.steps[step].name.clone()).collect()
}

fn tasker_decision(outcome: Value) -> Value {
    json!({"result": {"decision_point_outcome": outcome, "amount": 7}})
}

fn tasker_batches(outcome: Value) -> Value {
    json!({"result": {"batch_processing_outcome": outcome}})
}

fn cursors(cursors: Value) -> Value {
    json!({"batches": {"cursors": cursors}})
}

fn workers(workflow: &Workflow, step: &str, said: Value) -> Vec<(String, Value)> {
    let expansion = expansion(workflow, step, said);
    assert_eq!(expansion.created, Created::Workers(expansion.workers.len() as u32));
    expansion.workers.into_iter().map(|worker| (worker.name, serde_json::from_str(worker.inputs.get()).unwrap())).collect()
}

#[test]
fn a_decision_names_steps_in_our_shape_or_in_taskers() {
    let workflow = approval();
    for said in [
        json!({"decision": {"create": ["finance", "manager", "finance"]}}),
        tasker_decision(json!({"type": "create_steps", "step_names": ["manager", "finance"]})),
        tasker_decision(
            json!({"type": "create_steps", "step_names": ["manager", "finance"], "dynamic_steps": null, "reason": "x"}),
        ),
        json!({"decision": {"create": ["manager", "finance"]},
               "result": {"decision_point_outcome": {"type": "create_steps", "step_names": ["finance", "manager"]}}}),
    ] {
        assert_eq!(named(&workflow, said.clone()), ["manager", "finance"], "{said}");
    }
    for said in [
        json!({"decision": {"create": []}}),
        tasker_decision(json!({"type": "no_branches"})),
        tasker_decision(json!({"type": "create_steps", "step_names": []})),
        json!({"decision": {"create": []}, "result": {"decision_point_outcome": {"type": "no_branches"}}}),
    ] {
        assert_eq!(named(&workflow, said.clone()), Vec::<String>::new(), "{said}");
    }
}

#[test]
fn a_decision_may_name_a_convergence_that_depends_on_it_and_a_batchable_step() {
    let workflow = workflow(
        "{name: a, handler: {callable: x}}, {name: route, type: decision, dependencies: [a], handler: {callable: x}},
         {name: divide, type: batchable, dependencies: [route], handler: {callable: x}},
         {name: work, type: batch_worker, dependencies: [divide], handler: {callable: x}},
         {name: join, type: deferred_convergence, dependencies: [route, work], handler: {callable: x}}",
    );
    assert_eq!(named(&workflow, json!({"decision": {"create": ["join", "divide"]}})), ["divide", "join"]);
}

#[test]
fn every_invalid_decision_is_refused_with_its_reason() {
    let workflow = approval();
    let create = |names: Value| json!({"decision": {"create": names}});
    let many = json!(vec!["manager"; limits::STEPS + 1]);
    for (said, expected) in [
        (
            json!({}),
            "/result: does not say which steps to create: a decision step's result has the key decision_point_outcome, which is \
             {\"type\": \"create_steps\", \"step_names\": […]} or {\"type\": \"no_branches\"}",
        ),
        (tasker_decision(json!(null)), "/result: does not say which steps to create: …"),
        (json!({"result": [1]}), "/result: does not say which steps to create: …"),
        (
            json!({"result": {"batch_processing_outcome": {"type": "no_batches"}}}),
            "/result: does not say which steps to create: …",
        ),
        (json!({"decision": ["manager"]}), "/decision: must be a map, not a list"),
        (json!({"decision": {}}), "/decision/create: is missing"),
        (create(json!("manager")), "/decision/create: must be a list, not a string"),
        (create(json!(["manager", 5])), "/decision/create/1: must be a string, not a number"),
        (create(json!([""])), "/decision/create/0: must not be empty"),
        (create(json!(["mnager"])), "/decision/create/0: there is no step \"mnager\"; did you mean manager?"),
        (
            create(json!(["refund"])),
            "/decision/create/0: there is no step \"refund\"; the decision may name at_once, manager, finance",
        ),
        (
            create(json!(["manager", "route"])),
            "/decision/create/1: the step \"route\" is the decision itself; it may name at_once, manager, finance",
        ),
        (
            create(json!(["close"])),
            "/decision/create/0: the step \"close\" does not depend on the decision directly; the decision may name at_once, \
             manager, finance",
        ),
        (
            create(json!(["check", "ship"])),
            "/decision/create/0: the step \"check\" does not depend on the decision directly; the decision may name at_once, \
             manager, finance; /decision/create/1: there is no step \"ship\"; the decision may name at_once, manager, finance",
        ),
        (create(many), "/decision/create: has 10001 items; at most 10000 are allowed"),
        (tasker_decision(json!("manager")), "/result/decision_point_outcome: must be a map, not a string"),
        (tasker_decision(json!({"step_names": ["manager"]})), "/result/decision_point_outcome/type: is missing"),
        (
            tasker_decision(json!({"type": "skip"})),
            "/result/decision_point_outcome/type: is \"skip\"; it must be one of create_steps, no_branches",
        ),
        (tasker_decision(json!({"type": "create_steps"})), "/result/decision_point_outcome/step_names: is missing"),
        (
            json!({"decision": {"create": ["manager"]}, "result": {"decision_point_outcome": {"type": "no_branches"}}}),
            "/decision: names other steps than /result/decision_point_outcome",
        ),
        (
            json!({"decision": {"create": []}, "batches": "no_batches"}),
            "/batches: is for steps of type batchable; the type of this step is decision",
        ),
        (
            tasker_decision(json!({"type": "no_branches", "step_names": ["manager"]})),
            "/result/decision_point_outcome/step_names: lists 1, but the type is no_branches, which makes nothing; leave out one of \
             the two",
        ),
        (json!({"decision": {"create": [], "why": "\u{0}"}}), "/decision/why: contains \\u0000, which cannot be stored"),
    ] {
        let found = refusal(&workflow, "route", said.clone());
        match expected.strip_suffix('…') {
            Some(begin) => assert!(found.starts_with(begin), "{said}: {found}"),
            None => assert_eq!(found, expected, "{said}"),
        }
    }
    let pattern = refusal(&diamond(), "route", create(json!(["even_work"])));
    assert_eq!(
        pattern,
        "/decision/create/0: the step \"even_work\" is of type batch_worker, of which only batches are made; the decision may name \
         even_analyze, odd_analyze"
    );
}

#[test]
fn a_sentence_names_some_of_many_faults() {
    let message = refusal(&approval(), "route", json!({"decision": {"create": vec!["x"; 10_000]}}));
    assert!(message.ends_with("; …") && message.matches("there is no step").count() == 10, "{message}");
}

#[test]
fn a_batchable_step_makes_a_worker_for_each_cursor_in_our_shape_or_in_taskers() {
    let workflow = dataset();
    let metadata = json!({"cursor_field": "id", "failure_strategy": "fail_fast"});
    let expected = |further: Value| {
        let mut cursor = json!({"batch_id": "001", "start_cursor": 0, "end_cursor": 200, "batch_size": 200});
        cursor.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        vec![("work_001".to_owned(), json!({"cursor": cursor, "batch_metadata": metadata, "is_no_op": false}))]
    };
    for said in [
        cursors(json!([{"batch_id": "001", "start": 0, "end": 200}])),
        json!({"batches": {"worker_template": "work", "cursors": [{"batch_id": "001", "start": 0, "end": 200, "batch_size": 200}]}}),
        tasker_batches(json!({"type": "create_batches", "worker_template_name": "work", "worker_count": 1, "total_items": 200,
            "cursor_configs": [{"batch_id": "001", "start_cursor": 0, "end_cursor": 200, "batch_size": 200}]})),
        // Tasker Core counts the cursors itself.
        tasker_batches(json!({"type": "create_batches", "worker_count": 9,
            "cursor_configs": [{"batch_id": "001", "start_cursor": 0, "end_cursor": 200}]})),
        json!({"batches": {"cursors": [{"batch_id": "001", "start": 0, "end": 200}]}, "result": {"batch_processing_outcome":
            {"type": "create_batches", "cursor_configs": [{"batch_id": "001", "start_cursor": 0, "end_cursor": 2e2, "batch_size": 200}]}}}),
    ] {
        let [(name, inputs)] = &workers(&workflow, "analyze", said.clone())[..] else { panic!("{said}") };
        assert_eq!((name, inputs), (&expected(json!({}))[0].0, &expected(json!({}))[0].1), "{said}");
    }
    let further = json!({"region": {"id": 7}, "step_size": 10});
    let cursor = json!([{"batch_id": "001", "start": 0, "end": 200, "region": {"id": 7}, "step_size": 10}]);
    assert_eq!(workers(&workflow, "analyze", cursors(cursor)), expected(further));
}

#[test]
fn positions_are_any_json_and_keep_their_digits() {
    let said = r#"{"success": {"result": null, "batches": {"cursors": [
        {"batch_id": 7, "start": 1.50, "end": 12345678901234567890123},
        {"batch_id": "a.b-C_9", "start": null, "end": "2026-01-01", "batch_size": 3},
        {"batch_id": "up", "start": -5, "end": 5},
        {"batch_id": "down", "start": 5, "end": 1}]}}}"#;
    let outcome: Outcome = serde_json::from_str(said).unwrap();
    let workers = dataset().expansion(0, &outcome).unwrap().workers;
    let cursors: Vec<_> =
        workers.iter().map(|worker| worker.inputs.get().split(r#","batch_metadata""#).next().unwrap()).collect();
    assert_eq!(
        cursors,
        [
            r#"{"cursor":{"batch_id":"7","batch_size":0,"end_cursor":12345678901234567890123,"start_cursor":1.50}"#,
            r#"{"cursor":{"batch_id":"a.b-C_9","batch_size":3,"end_cursor":"2026-01-01","start_cursor":null}"#,
            r#"{"cursor":{"batch_id":"up","batch_size":10,"end_cursor":5,"start_cursor":-5}"#,
            r#"{"cursor":{"batch_id":"down","batch_size":0,"end_cursor":1,"start_cursor":5}"#,
        ]
    );
}

#[test]
fn without_work_there_is_one_worker_where_the_template_asks_for_it_and_else_none() {
    let no_op = json!({
        "cursor": {"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0},
        "batch_metadata": {"cursor_field": "id", "failure_strategy": "fail_fast"},
        "is_no_op": true
    });
    for said in [
        json!({"batches": "no_batches"}),
        json!({"batches": {"type": "no_batches"}}),
        tasker_batches(json!({"type": "no_batches", "reason": "too small"})),
        json!({"batches": "no_batches", "result": {"batch_processing_outcome": {"type": "no_batches"}}}),
    ] {
        assert_eq!(workers(&dataset(), "analyze", said.clone()), [("work_000".to_owned(), no_op.clone())], "{said}");
        assert_eq!(workers(&diamond(), "even_analyze", said.clone()), [], "{said}");
    }
    for said in [
        tasker_batches(json!("no_batches")),
        tasker_batches(json!({"type": "create_batches", "worker_count": 0, "cursor_configs": [], "total_items": 0})),
        cursors(json!([])),
    ] {
        assert_eq!(workers(&dataset(), "analyze", said.clone()), [], "{said}");
    }
}

#[test]
fn the_bound_of_workers_is_that_of_the_template() {
    let parallelism =
        |workflow: &Workflow, step: &str| expansion(workflow, step, json!({"batches": {"cursors": []}})).parallelism;
    assert_eq!(parallelism(&dataset(), "analyze"), Some(10));
    assert_eq!(parallelism(&diamond(), "odd_analyze"), None);
    assert_eq!(expansion(&approval(), "route", json!({"decision": {"create": ["manager"]}})).parallelism, None);
}

#[test]
fn cursors_are_taken_out_of_the_stored_result_and_nothing_else() {
    let outcome = r#"{"success": {"result": {"path": "a", "sum": 1.50, "batch_processing_outcome": {"type": "create_batches",
        "worker_template_name": "work", "worker_count": 1, "total_items": 12345678901234567890123,
        "cursor_configs": [{"batch_id": "1", "start_cursor": 0, "end_cursor": 1, "batch_size": 1}]}}}}"#;
    let expansion = dataset().expansion(0, &serde_json::from_str(outcome).unwrap()).unwrap();
    assert_eq!(
        expansion.result.unwrap().get(),
        r#"{"batch_processing_outcome":{"total_items":12345678901234567890123,"type":"create_batches","worker_count":1,"worker_template_name":"work"},"path":"a","sum":1.50}"#
    );
    for said in [
        json!({"batches": {"cursors": [{"batch_id": "1", "start": 0, "end": 1}]}, "result": {"cursor_configs": [1]}}),
        tasker_batches(json!({"type": "no_batches"})),
        tasker_batches(json!("no_batches")),
    ] {
        let result = self::expansion(&dataset(), "analyze", said.clone()).result;
        assert!(result.is_none(), "{said}: {result:?}");
    }
}

#[test]
fn every_invalid_batch_is_refused_with_its_reason() {
    let workflow = workflow(&format!(
        "{{name: divide, type: batchable, handler: {{callable: x}}}},
         {{name: work, type: batch_worker, dependencies: [divide], handler: {{callable: x}}}},
         {{name: other, type: batchable, handler: {{callable: x}}}},
         {{name: work_late, type: batch_worker, dependencies: [other], handler: {{callable: x}}}},
         {{name: work_sum, dependencies: [work], handler: {{callable: x}}}},
         {{name: long, type: batchable, handler: {{callable: x, initialization: {{worker_template_name: y}}}}}},
         {{name: {}, type: batch_worker, dependencies: [long], handler: {{callable: x}}}}",
        "y".repeat(limits::NAME_CHARS - 3)
    ));
    let one = |cursor: Value| cursors(json!([cursor]));
    let id = |id: Value| one(json!({"batch_id": id, "start": 0, "end": 1}));
    let ids = |ids: &[&str]| cursors(ids.iter().map(|id| json!({"batch_id": id, "start": 0, "end": 1})).collect());
    for (said, expected) in [
        (
            json!({}),
            "/result: does not say which batches to create: a batchable step's result has the key batch_processing_outcome, which is \
             {\"type\": \"create_batches\", \"cursor_configs\": […], …} or {\"type\": \"no_batches\"}",
        ),
        (json!({"result": "no_batches"}), "/result: does not say which batches to create: …"),
        (json!({"batches": "none"}), "/batches: must be a map, not a string"),
        (json!({"batches": {}}), "/batches/cursors: is missing"),
        (
            json!({"batches": {"type": "batches", "cursors": []}}),
            "/batches/type: is \"batches\"; it must be one of create_batches, no_batches",
        ),
        (json!({"batches": {"cursors": {}}}), "/batches/cursors: must be a list, not a map"),
        (cursors(json!([7])), "/batches/cursors/0: must be a map, not a number"),
        (one(json!({"start": 0, "end": 1})), "/batches/cursors/0/batch_id: is missing"),
        (one(json!({"batch_id": "1", "end": 1})), "/batches/cursors/0/start: is missing"),
        (one(json!({"batch_id": "1", "start": 1})), "/batches/cursors/0/end: is missing"),
        (
            one(json!({"batch_id": "1", "start": 0, "end": 1, "batch_size": 1.5})),
            "/batches/cursors/0/batch_size: must be a whole number, not 1.5",
        ),
        (id(json!([1])), "/batches/cursors/0/batch_id: must be a string, not a list"),
        (id(json!("")), "/batches/cursors/0/batch_id: is \"\"; it must be 1 to 64 of A-Z, a-z, 0-9, _, . and -"),
        (id(json!(1e300)), "/batches/cursors/0/batch_id: is \"1e+300\"; it must be 1 to 64 of A-Z, a-z, 0-9, _, . and -"),
        (id(json!("a b")), "/batches/cursors/0/batch_id: is \"a b\"; it must be 1 to 64 of A-Z, a-z, 0-9, _, . and -"),
        (id(json!("é")), "/batches/cursors/0/batch_id: is \"é\"; it must be 1 to 64 of A-Z, a-z, 0-9, _, . and -"),
        (id(json!("x".repeat(65))), "/batches/cursors/0/batch_id: is \"xxxx…"),
        (ids(&["a", "b", "a"]), "/batches/cursors/2/batch_id: is \"a\", as is /batches/cursors/0/batch_id"),
        (ids(&["sum"]), "/batches/cursors/0/batch_id: makes a worker named \"work_sum\", as is a step of the template"),
        (
            ids(&["late_1"]),
            "/batches/cursors/0/batch_id: makes a worker named \"work_late_1\", which begins like the workers of \"work_late\"",
        ),
        (
            json!({"batches": {"cursors": [], "worker_template": "work_late"}}),
            "/batches/worker_template: is \"work_late\"; the workers are made from \"work\"",
        ),
        (tasker_batches(json!(5)), "/result/batch_processing_outcome: must be a map, not a number"),
        (tasker_batches(json!("none")), "/result/batch_processing_outcome: must be a map, not a string"),
        (tasker_batches(json!({"cursor_configs": []})), "/result/batch_processing_outcome/type: is missing"),
        (tasker_batches(json!({"type": "create_batches"})), "/result/batch_processing_outcome/cursor_configs: is missing"),
        (
            tasker_batches(json!({"type": "create_batches", "worker_template_name": 5, "cursor_configs": []})),
            "/result/batch_processing_outcome/worker_template_name: must be a string, not a number",
        ),
        (
            tasker_batches(json!({"type": "create_batches", "cursor_configs": [{"batch_id": "1", "start": 0, "end": 1}]})),
            "/result/batch_processing_outcome/cursor_configs/0/end_cursor: is missing; \
             /result/batch_processing_outcome/cursor_configs/0/start_cursor: is missing",
        ),
        (
            json!({"batches": {"cursors": []}, "result": {"batch_processing_outcome": {"type": "create_batches",
                "cursor_configs": [{"batch_id": "1", "start_cursor": 0, "end_cursor": 1}]}}}),
            "/batches: makes other workers than /result/batch_processing_outcome",
        ),
        (json!({"decision": {"create": []}}), "/decision: is for steps of type decision; the type of this step is batchable"),
        (
            tasker_batches(json!({"type": "no_batches", "cursor_configs": [{"batch_id": "1"}]})),
            "/result/batch_processing_outcome/cursor_configs: lists 1, but the type is no_batches, which makes nothing; leave out one \
             of the two",
        ),
        (
            one(json!({"batch_id": "1", "start": "\u{0}", "end": 1})),
            "/batches/cursors/0/start: contains \\u0000, which cannot be stored",
        ),
    ] {
        let found = refusal(&workflow, "divide", said.clone());
        match expected.strip_suffix('…') {
            Some(begin) => assert!(found.starts_with(begin), "{said}: {found}"),
            None => assert_eq!(found, expected, "{said}"),
        }
    }
    let long = "makes a worker's name of 129 characters; at most 128 are allowed";
    assert_eq!(refusal(&workflow, "long", json!({"batches": "no_batches"})), format!("/batches: {long}"));
    assert_eq!(refusal(&workflow, "long", ids(&["123"])), format!("/batches/cursors/0/batch_id: {long}"));
    assert_eq!(workers(&workflow, "long", ids(&["12"])).len(), 1);
    assert_eq!(workers(&workflow, "other", ids(&["sum"])).len(), 1, "the names of another pattern are free");
}

#[test]
fn too_many_cursors_are_counted_and_not_read() {
    let list = |count: usize| cursors((0..count).map(|_| json!(0)).collect());
    let too_many = refusal(&dataset(), "analyze", list(limits::MADE_STEPS + 1));
    assert_eq!(too_many, "/batches/cursors: has 10001 items; at most 10000 are allowed");
    let million = refusal(&dataset(), "analyze", list(1_000_000));
    assert_eq!(million, "/batches/cursors: has 1000000 items; at most 10000 are allowed");
    let bytes = refusal(&dataset(), "analyze", json!({"batches": {"x": "x".repeat(limits::RESULT_BYTES), "cursors": []}}));
    assert_eq!(bytes, format!("/batches: has {} bytes; at most {} are read", limits::RESULT_BYTES + 21, limits::RESULT_BYTES));
    let most: Value = (0..limits::MADE_STEPS).map(|i| json!({"batch_id": i, "start": i, "end": i + 1})).collect();
    assert_eq!(workers(&dataset(), "analyze", cursors(most)).len(), limits::MADE_STEPS);
}

#[test]
fn other_steps_have_no_say_and_their_results_are_data() {
    let workflow = approval();
    let refused = |step: &str, said: Value| {
        workflow.refuse_expansion(position(&workflow, step), &success(said)).map(|failure| failure.message)
    };
    let result = json!({"decision_point_outcome": {"type": "x"}, "batch_processing_outcome": 5});
    assert_eq!(refused("check", json!({"result": result})), None);
    assert_eq!(
        refused("check", json!({"decision": {"create": []}, "batches": 5})).unwrap(),
        "/decision: is for steps of type decision; the type of this step is standard; \
         /batches: is for steps of type batchable; the type of this step is standard"
    );
    assert_eq!(refused("route", json!({"decision": 5})), None, "a decision has its say");
    let failure = Outcome::Failure(tasker_wire::Failure::permanent("x", "y"));
    assert_eq!(workflow.refuse_expansion(0, &failure), None);
    assert_eq!(refusal(&workflow, "check", json!({})), "a step of type standard makes no steps");
}

#[test]
fn what_an_operator_resolves_makes_nothing_unless_the_result_says_so() {
    let resolved = |workflow: &Workflow, step: &str, said: Value| {
        workflow.resolution(position(workflow, step), &success(said)).map(|expansion| expansion.created).ok()
    };
    let (approval, dataset) = (approval(), dataset());
    assert_eq!(resolved(&approval, "route", json!({"result": null})), Some(Created::Steps(vec![])));
    assert_eq!(resolved(&dataset, "analyze", json!({"result": {"a": 1}})), Some(Created::Workers(0)));
    let manager = tasker_decision(json!({"type": "create_steps", "step_names": ["manager"]}));
    assert_eq!(resolved(&approval, "route", manager), Some(Created::Steps(vec![position(&approval, "manager")])));
    assert_eq!(resolved(&approval, "route", tasker_decision(json!({"type": "x"}))), None);
}

proptest! {
    /// Whatever a handler returns, the outcome is read or refused, and what it makes can be stored and read again.
    #[test]
    fn any_outcome_is_read_or_refused(text in r#"([\[\]{}:,]|"(type|create|cursors|cursor_configs|step_names|batch_id|start|end|no_batches|create_batches|create_steps|manager|work)"|[0-9]){0,30}"#) {
        let Ok(value) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
        let raw = to_raw_value(&value).unwrap();
        for (workflow, step) in [(approval(), "route"), (dataset(), "analyze")] {
            let own = match step {
                "route" => Outcome::Success { result: raw.clone(), metadata: None, decision: Some(raw.clone()), batches: None },
                _ => Outcome::Success { result: raw.clone(), metadata: None, decision: None, batches: Some(raw.clone()) },
            };
            let tasker = success(json!({"result": {"decision_point_outcome": value, "batch_processing_outcome": value}}));
            for outcome in [own, tasker] {
                let at = position(&workflow, step);
                if let Ok(expansion) = workflow.expansion(at, &outcome) {
                    let numbers = expansion.created.numbers(&workflow, at);
                    prop_assert_eq!(Created::from_numbers(&workflow, at, &numbers), Some(expansion.created));
                }
            }
        }
    }
}
