//! The sample workflows give the documented results.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tasker_test_support::{
    binary,
    dev::{Dev, Place},
    root,
};

#[test]
fn the_sample_workflows_give_their_results() {
    let place = Place::create();
    let templates = root().join("config/templates");
    let worker = format!("rust={}", binary("tasker-example-rust").display());
    let python = format!("python=python3 {}", root().join("workers/python/examples/order_handlers.py").display());
    let dev = Dev::start(&place, &["--templates", templates.to_str().unwrap(), "--worker", &worker, "--worker", &python]);

    let results = |namespace: &str, name: &str| {
        let task = dev.submit(namespace, name, json!({"even_number": 6}));
        assert_eq!(dev.finished(&task)["status"], "complete", "{name}");
        dev.steps(&task).iter().map(|s| s["results"]["result"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        results("rust_e2e_linear", "mathematical_sequence"),
        [json!(36), json!(1296), json!(1_679_616), json!(2_821_109_907_456_u64)]
    );
    assert_eq!(results("rust_e2e_diamond", "diamond_pattern").last(), Some(&json!(2_821_109_907_456_u64)));
    assert_eq!(results("rust_e2e_tree", "hierarchical_tree").last(), Some(&json!(power(64))));
    assert_eq!(results("rust_e2e_mixed_dag", "complex_dag").last(), Some(&json!(power(64))));
    assert!(dev.stop());
}

/// 6 to a power as a decimal string, by schoolbook multiplication.
fn power(exponent: u32) -> String {
    let mut digits = vec![1u32];
    for _ in 0..exponent {
        let mut carry = 0;
        for digit in &mut digits {
            let product = *digit * 6 + carry;
            (*digit, carry) = (product % 10, product / 10);
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    digits.iter().rev().map(|d| char::from_digit(*d, 10).unwrap()).collect()
}

/// Runs `check` with the samples of `config/templates/samples` and a worker of each language.
fn in_both_languages(check: fn(&Dev)) {
    let python = format!("python3 {}", root().join("workers/python/examples/samples.py").display());
    for worker in [binary("tasker-example-rust").display().to_string(), python] {
        let place = Place::create();
        let (templates, worker) = (root().join("config/templates/samples"), format!("default={worker}"));
        let dev = Dev::start(&place, &["--templates", templates.to_str().unwrap(), "--worker", &worker]);
        check(&dev);
        dev.assert_healthy();
        assert!(dev.stop());
    }
}

/// The results of a task that ends as complete, by step.
fn results(dev: &Dev, task: &str) -> BTreeMap<String, Value> {
    assert_eq!(dev.finished(task)["status"], "complete", "{:?}", dev.steps(task));
    let result = |step: &Value| (step["name"].as_str().unwrap().to_owned(), step["results"]["result"].clone());
    dev.steps(task).iter().map(result).collect()
}

#[test]
fn orders_pipelines_and_registrations_give_the_same_in_both_languages() {
    in_both_languages(|dev| {
        let order = json!({
            "cart_items": [{"product_id": 1, "quantity": 2}, {"product_id": 2, "quantity": 1}],
            "customer_info": {"email": "ada@example.com", "name": "Ada"},
            "payment_info": {"method": "credit_card", "token": "tok_test_valid", "amount": 124.76},
        });
        let order = results(dev, &dev.submit("ecommerce", "order_processing", order));
        assert_eq!((order.len(), &order["create_order"]["total"]), (5, &json!(124.76)));
        let pipeline = results(dev, &dev.submit("data_pipeline", "analytics_pipeline", json!({"pipeline_id": "p"})));
        assert_eq!((pipeline.len(), &pipeline["generate_insights"]["health_score"]), (8, &json!(80)));
        let user = json!({"user_info": {"email": "ada@example.com", "name": "Ada", "plan": "pro"}});
        let user = results(dev, &dev.submit("microservices", "user_registration", user));
        assert_eq!((user.len(), &user["update_user_status"]["billing"]), (5, &json!("active")));
    });
}

#[test]
fn what_a_person_gives_as_the_result_of_a_step_is_what_the_next_one_goes_on_with() {
    in_both_languages(|dev| {
        let task = dev.submit("manual_completion", "document_review", json!({"title": "Notes", "text": "one two three"}));
        assert_eq!(dev.finished(&task)["status"], "error");
        let result = json!({"approved": true, "reviewer": "Ada"}).to_string();
        let resolved = dev.ctl(&["step", "resolve", &task, "human_review", "--reason", "I read it", "--result", &result]);
        assert!(resolved.status.success(), "{}", String::from_utf8_lossy(&resolved.stderr));
        let published = json!({"title": "Notes", "published": true, "reviewer": "Ada"});
        assert_eq!(results(dev, &task)["publish_document"], published);
    });
}

#[test]
fn a_decision_makes_the_approvals_that_an_amount_needs() {
    in_both_languages(|dev| {
        for (amount, chosen) in [
            (500, &["auto_approve"][..]),
            (3000, &["manager_approval"]),
            (5000, &["finance_review", "manager_approval"]),
            (10_000, &["finance_review", "manager_approval"]),
        ] {
            let request = json!({"amount": amount, "requester": "Ada", "purpose": "books"});
            let steps = results(dev, &dev.submit("conditional_approval", "approval_routing", request));
            let mut expected = vec!["finalize_approval", "routing_decision", "validate_request"];
            expected.extend(chosen);
            expected.sort_unstable();
            assert_eq!(steps.keys().collect::<Vec<_>>(), expected, "{amount}");
            assert_eq!(steps["finalize_approval"]["approval_count"], chosen.len());
        }
    });
}

#[test]
fn batches_make_a_worker_for_each_cursor_and_one_without_work_for_none() {
    in_both_languages(|dev| {
        let workers =
            |steps: &BTreeMap<String, Value>, pattern: &str| steps.keys().filter(|name| name.starts_with(pattern)).count();
        for (file, count, processed) in [("products.csv", 5, 1000), ("products_empty.csv", 1, 0)] {
            let context = json!({"csv_file_path": root().join("config/templates/samples").join(file)});
            let steps = results(dev, &dev.submit("csv_processing", "product_inventory", context));
            assert_eq!(workers(&steps, "process_csv_batch_"), count);
            assert_eq!(steps["aggregate_csv_results"]["processed"], processed);
        }
        for (numbers, chosen, other) in [(json!([2, 4, 6, 8, 10, 12]), "even", "odd"), (json!([1, 3, 5, 7, 9, 2]), "odd", "even")]
        {
            let steps = results(dev, &dev.submit("combined_workflow", "diamond_decision_batch", json!({"numbers": numbers})));
            assert_eq!(workers(&steps, &format!("process_{chosen}_batch_")), 3);
            assert!(!steps.keys().any(|name| name.contains(other) && *name != format!("branch_{other}s")), "{steps:?}");
        }
    });
}

#[test]
fn work_continues_at_its_checkpoint_or_where_its_last_attempt_failed() {
    in_both_languages(|dev| {
        let attempts = |task: &str, worker: &str| {
            dev.steps(task).iter().find(|step| step["name"] == worker).map(|step| step["attempts"].clone()).unwrap()
        };
        for (resume_by, last_run_from) in [("failure", 50), ("checkpoint", 100)] {
            let task = dev.submit("batch_resumption", "batch_resumption", json!({"dataset_size": 100, "resume_by": resume_by}));
            assert_eq!(results(dev, &task)["process_range_001"]["last_run_from"], last_run_from, "{resume_by}");
        }
        for (context, expected) in [
            (json!({"total_items": 100, "items_per_checkpoint": 25}), 1),
            (json!({"total_items": 100, "items_per_checkpoint": 20, "fail_after_items": 50}), 2),
        ] {
            let task = dev.submit("checkpoint_yield", "checkpoint_yield", context);
            assert_eq!(results(dev, &task)["aggregate_items"]["running_total"], 5050);
            assert_eq!(attempts(&task, "sum_items_001"), expected);
        }
        let context = json!({"total_items": 100, "items_per_checkpoint": 25, "fail_after_items": 30, "permanent_failure": true});
        let task = dev.submit("checkpoint_yield", "checkpoint_yield", context);
        assert_eq!(dev.finished(&task)["status"], "error");
        assert_eq!(attempts(&task, "sum_items_001"), 1);
    });
}
