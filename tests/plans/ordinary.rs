//! What an ordinary step costs: of tasks of four steps in a row that all succeed, alone and in batches, over a queue in the process
//! and over one outside of it.

use uuid::Uuid;

use crate::{
    cost::{Cost, Meter, Session},
    workload::{DISPATCH, LINEAR, complete_with, submit_of},
};

/// The most that a call may need: plan nodes and inner statements, whatever its number of tasks.
struct Bound {
    call: &'static str,
    nodes: u64,
    inner: u64,
}

const fn most(call: &'static str, nodes: u64, inner: u64) -> Bound {
    Bound { call, nodes, inner }
}

const ALONE: [Bound; 5] =
    [most("submit", 9, 4), most("first", 9, 4), most("second", 13, 5), most("third", 13, 5), most("last", 9, 4)];
const TOGETHER: [Bound; 5] =
    [most("submit", 32, 3), most("first", 37, 5), most("second", 37, 5), most("third", 37, 5), most("last", 33, 5)];
const BATCHES: [usize; 3] = [1, 4, 64];
/// Runs of one task, and of a batch: a page of an index that is split in one of them is logged whole.
const RUNS: [usize; 2] = [20, 6];

/// The most that a step may need, its share of the submit included: pages, and bytes of write-ahead log without full pages and
/// commits. And the smallest part of the updates of `steps` that must write no index.
struct Queue {
    name: &'static str,
    send_ms: &'static str,
    pages: f64,
    log_bytes: f64,
    hot: f64,
}

const QUEUES: [Queue; 2] = [
    Queue { name: "in the process", send_ms: "null", pages: 36.0, log_bytes: 960.0, hot: 0.95 },
    Queue { name: "outside", send_ms: DISPATCH[0], pages: 44.0, log_bytes: 1_120.0, hot: 0.0 },
];
/// Rows of `attempts` a step.
const ATTEMPTS: f64 = 0.0;

/// Runs tasks and prints what each call needed. Returns what was too much, in sentences.
pub async fn faults(session: &mut Session, situation: &'static str) -> Vec<String> {
    let mut faults = Vec::new();
    for queue in QUEUES {
        for tasks in BATCHES {
            // The first run makes the query plans, and reads the catalogs for that.
            run(session, Meter::Idle, tasks, &queue).await;
            session.costs.clear();
            for _ in 0..RUNS[usize::from(tasks > 1)] {
                run(session, Meter::Running(situation), tasks, &queue).await;
            }
            println!("{tasks} at once, a queue {}, {situation}", queue.name);
            let gates = gates(&session.costs, tasks, &queue);
            let wrong = gates.into_iter().filter(|(_, value, most)| value > most);
            let wrong = wrong.map(|(what, value, most)| format!("{what} is {value:.3}, at most {most} is allowed"));
            let all = wrong.chain(session.faults());
            faults.extend(all.map(|fault| format!("{tasks} at once, a queue {}, {situation}: {fault}", queue.name)));
        }
    }
    faults
}

/// Submits tasks together, and completes the four steps of each together.
async fn run(session: &mut Session, meter: Meter, tasks: usize, queue: &Queue) {
    let tasks: Vec<Uuid> = (0..tasks).map(|_| Uuid::now_v7()).collect();
    submit_of(session, meter, (&tasks, &LINEAR, queue.send_ms), ALONE[0].call, u64::MAX).await;
    for (position, bound) in ALONE[1..].iter().enumerate() {
        let steps: Vec<_> = tasks.iter().map(|&task| (task, position, 1)).collect();
        complete_with(session, meter, (&steps, "complete", queue.send_ms), bound.call, u64::MAX).await;
    }
}

/// What was measured: a name, the value, and the most that it may be.
fn gates(costs: &[Cost], tasks: usize, queue: &Queue) -> Vec<(String, f64, f64)> {
    let bounds = if tasks == 1 { &ALONE } else { &TOGETHER };
    let runs = costs.len() / bounds.len();
    let mut gates = Vec::new();
    for (place, bound) in bounds.iter().enumerate() {
        let of_call = |count: fn(&Cost) -> u64| costs.iter().skip(place).step_by(bounds.len()).map(count);
        let a_task = |count| of_call(count).sum::<u64>() as f64 / (runs * tasks) as f64;
        let [nodes, inner] = [|c: &Cost| c.nodes, |c: &Cost| c.inner].map(|count| of_call(count).max().unwrap() as f64);
        println!(
            "  {:<8} {nodes:>3} nodes {inner:>2} inner statements; {:>5.1} pages and {:>5.0} bytes of log a task",
            bound.call,
            a_task(|c| c.pages),
            a_task(|c| c.log_bytes)
        );
        gates.push((format!("plan nodes of {}", bound.call), nodes, bound.nodes as f64));
        gates.push((format!("inner statements of {}", bound.call), inner, bound.inner as f64));
    }
    let all = |count: fn(&Cost) -> u64| costs.iter().map(count).sum::<u64>() as f64;
    let a_step = |count: fn(&Cost) -> u64| all(count) / (4 * tasks * runs) as f64;
    let (pages, attempts) = (a_step(|c| c.pages), a_step(|c| c.attempts));
    // A checkpoint of the server may come at any time.
    let usual = all(|c| u64::from(c.full_pages == 0)) / costs.len() as f64;
    let log_bytes = a_step(|c| if c.full_pages == 0 { c.log_bytes } else { 0 }) / usual.max(0.1);
    let hot = all(|c| c.hot) / all(|c| c.updates);
    println!(
        "  a step: {pages:.1} pages, {log_bytes:.0} bytes of log, {attempts} rows of attempts; {hot:.3} of the updates write no index"
    );
    gates.push(("pages a step".into(), pages, queue.pages));
    gates.push(("bytes of log a step".into(), log_bytes, queue.log_bytes));
    gates.push(("rows of attempts a step".into(), attempts, ATTEMPTS));
    gates.push(("the part of the updates that write an index".into(), 1.0 - hot, 1.0 - queue.hot));
    gates
}
