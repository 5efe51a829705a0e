//! The sample workflows give the documented results.

use serde_json::json;
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
