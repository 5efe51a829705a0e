//! A fixed number of cases for every target of libFuzzer, with the stable compiler: the seeds in `corpus/`, and mutations of
//! them. `TASKER_FUZZ_SEED` repeats a run, `TASKER_FUZZ_CASES` makes it longer.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "mutate.rs"]
mod mutate;
#[path = "src/lib.rs"]
mod targets;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use mutate::Mutator;
use targets::{child_line, json, step_action, task_request, template};

/// A run takes a few seconds where nothing is optimized.
const CASES: u64 = 20_000;

#[test]
fn no_template_breaks_its_parser() {
    cases("template", template::run);
}

#[test]
fn no_request_for_a_task_breaks_its_parser() {
    cases("task_request", task_request::run);
}

#[test]
fn no_action_of_an_operator_breaks_its_parser() {
    cases("step_action", step_action::run);
}

#[test]
fn no_line_of_a_child_breaks_its_parser() {
    cases("child_line", child_line::run);
}

#[test]
fn one_json_text_has_one_identity() {
    cases("json", json::run);
}

#[tokio::test]
async fn postgresql_takes_what_the_check_accepts() {
    let database = tasker_test_support::database().await;
    let client = database.client().await;
    let seeds = seeds("json");
    let mut mutator = Mutator::new(seed());
    let mutations = std::iter::repeat_with(|| mutator.mutate(&seeds)).take(CASES as usize);
    let texts = seeds.iter().cloned().chain(mutations).filter_map(|data| String::from_utf8(data).ok());
    let accepted: Vec<String> = texts.filter(|text| tasker_domain::json::check(text).is_ok()).take(500).collect();
    assert!(accepted.len() > 200, "only {} texts are accepted", accepted.len());
    for text in accepted {
        // Stored as `json`: PostgreSQL reads escapes only when it extracts a value.
        let sql = "select ($1::text::json)::text, ($1::text::json) #>> '{}'";
        let row = client.query_one(sql, &[&text]).await.unwrap_or_else(|e| panic!("seed {}: {text:?}: {e:?}", seed()));
        assert_eq!(row.get::<_, String>(0), text, "it is kept as it came");
    }
}

fn cases(target: &str, run: fn(&[u8])) {
    let seeds = seeds(target);
    assert!(seeds.len() >= 12, "{target} has only {} seeds", seeds.len());
    seeds.iter().for_each(|data| try_one(target, run, data));
    println!("{target}: {} seeds, {} mutations, TASKER_FUZZ_SEED={}", seeds.len(), number("TASKER_FUZZ_CASES", CASES), seed());
    let mut mutator = Mutator::new(seed());
    for _ in 0..number("TASKER_FUZZ_CASES", CASES) {
        try_one(target, run, &mutator.mutate(&seeds));
    }
}

fn try_one(target: &str, run: fn(&[u8]), data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| run(data))).is_err() {
        panic!("{target}, TASKER_FUZZ_SEED={}: {:?}", seed(), String::from_utf8_lossy(data));
    }
}

fn seed() -> u64 {
    number("TASKER_FUZZ_SEED", 1)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// In the order of their names, so that a seed of the mutator means the same everywhere.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}
