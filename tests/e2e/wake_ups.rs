//! What a step costs the processes that it passes through, in counts: how often their threads sleep, and how often a child writes. Times
//! depend on the machine; these hardly do. Each bound is a quarter above what was counted, alone and beside four busy loops on two
//! processors.

use std::fs;

use serde_json::{Value, json};
use tasker_test_support::{
    binary,
    dev::{Dev, Place, python_worker},
};

const TASKS: u64 = 32;
const STEPS: u64 = 4;
/// A busy machine adds sleeps and never takes any away, so the best of a few rounds counts.
const ROUNDS: usize = 3;

/// Since a process began: how often its threads slept, and how often it called `write`.
#[derive(Debug, Clone, Copy)]
struct Counts {
    sleeps: u64,
    writes: u64,
}

fn counts(pid: u32) -> Counts {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let sleeps = threads.map(|thread| number_in(&thread.path().join("status").display().to_string(), "voluntary_ctxt_switches:"));
    Counts { sleeps: sleeps.sum(), writes: number_in(&format!("/proc/{pid}/io"), "syscw:") }
}

/// 0 if the thread has ended meanwhile.
fn number_in(file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(key));
    rest.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

fn template(namespace: &str) -> Value {
    let step = |name: &str, parents: &[&str]| json!({"name": name, "dependencies": parents, "handler": {"callable": "noop"}});
    json!({
        "name": namespace, "namespace": namespace, "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [step("a", &[]), step("b", &["a"]), step("c", &["b"]), step("d", &["c"])],
    })
}

fn run_one(dev: &Dev, namespace: &str) {
    let (status, task) = dev.post("/v1/tasks?wait=20", &json!({"namespace": namespace, "name": namespace, "context": {}}));
    assert_eq!((status, &task["status"]), (201, &json!("complete")), "{task}");
}

/// The sleeps and writes a step: of the server, and of the child.
fn a_step(dev: &Dev, namespace: &str, child: u32) -> [[f64; 2]; 2] {
    let pids = [dev.child.id(), child];
    let before = pids.map(counts);
    (0..TASKS).for_each(|_| run_one(dev, namespace));
    let steps = (TASKS * STEPS) as f64;
    let after = pids.map(counts);
    [0, 1].map(|at| {
        let [before, after] = [before[at], after[at]];
        [(after.sleeps - before.sleeps) as f64 / steps, (after.writes - before.writes) as f64 / steps]
    })
}

/// The least of every count over the rounds.
fn least(namespace: &str, worker: &str) -> [[f64; 2]; 2] {
    let place = Place::create();
    place.template(&template(namespace));
    let dev = Dev::start(&place, &["--worker", worker]);
    run_one(&dev, namespace);
    let is_child = |pid: &u32| number_in(&format!("/proc/{pid}/status"), "PPid:") == u64::from(dev.child.id());
    let program = worker.split_once('=').unwrap().1.split(' ').next_back().unwrap();
    let names_it = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(program));
    let pids = place.processes().into_iter().map(i32::cast_unsigned);
    let child = pids.filter(is_child).find(names_it).unwrap();
    let rounds = (0..ROUNDS).map(|_| a_step(&dev, namespace, child));
    let least = rounds.reduce(|a, b| [0, 1].map(|p| [0, 1].map(|c| f64::min(a[p][c], b[p][c])))).unwrap();
    println!("{namespace}: sleeps and writes a step: server {:?}, child {:?}", least[0], least[1]);
    assert!(dev.stop());
    least
}

#[test]
fn a_step_wakes_few_threads_of_the_server_and_of_a_rust_child_which_writes_twice() {
    let [[server, _], [child, writes]] = least("rust", &format!("rust={}", binary("tasker-example-rust").display()));
    // A child with one sleep and one write is possible, if its reader is a task of the runtime. Then a handler that blocks its thread holds
    // up all others, which `blocked_thread` tests.
    assert!(server <= 9.7, "the server's threads sleep {server:.2} times a step");
    assert!(child <= 4.9, "the child's threads sleep {child:.2} times a step");
    assert!(writes <= 2.5, "the child writes {writes:.2} times a step: its outcome, and what wakes a thread of its own");
}

#[test]
fn a_python_child_writes_once_a_step() {
    let [_, [_, writes]] = least("python", &python_worker("python"));
    assert!(writes <= 1.25, "the child writes {writes:.2} times a step");
}
