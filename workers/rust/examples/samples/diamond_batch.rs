//! A diamond, a decision and batches in one task. The template is `diamond_decision_batch.yaml`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_sdk::{Batches, Decision, PermanentError, StepContext, Worker};

pub fn register(worker: Worker) -> Worker {
    let worker = worker
        .handler("ddb_start", ddb_start)
        .handler("branch_evens", |context| branch(context, 0))
        .handler("branch_odds", |context| branch(context, 1))
        .handler("ddb_routing_decision", ddb_routing_decision);
    of_branch(of_branch(worker, "even"), "odd")
}

/// Registers the handlers of one branch. Analyzer and workers read the branch's result, beyond the decision.
fn of_branch(worker: Worker, parity: &'static str) -> Worker {
    worker
        .handler(format!("{parity}_batch_analyzer"), move |context| analyze(context, parity))
        .handler(format!("process_{parity}_batch"), move |context| process(context, parity))
        .handler(format!("aggregate_{parity}_results"), move |context| aggregate(context, parity))
}

#[derive(Deserialize, Serialize)]
struct Numbers {
    numbers: Vec<i64>,
}

/// Takes the numbers from the task.
async fn ddb_start(context: StepContext) -> Result<Value, PermanentError> {
    let numbers: Vec<i64> = context.input("numbers")?;
    Ok(json!({ "numbers": numbers, "count": numbers.len() }))
}

/// Picks the numbers that leave this remainder after a division by two.
async fn branch(context: StepContext, remainder: i64) -> Result<Numbers, PermanentError> {
    let Numbers { mut numbers } = context.dependency("ddb_start")?;
    numbers.retain(|number| number.rem_euclid(2) == remainder);
    Ok(Numbers { numbers })
}

/// Takes the longer branch, the even one if both are as long.
async fn ddb_routing_decision(context: StepContext) -> Result<Decision, PermanentError> {
    let (evens, odds): (Numbers, Numbers) = (context.dependency("branch_evens")?, context.dependency("branch_odds")?);
    let (even, odd) = (evens.numbers.len(), odds.numbers.len());
    let chosen = if even >= odd { "even_batch_analyzer" } else { "odd_batch_analyzer" };
    let routing = json!({ "even_count": even, "odd_count": odd });
    Ok(Decision::create([chosen]).with_result(json!({ "routing_context": routing })))
}

async fn analyze(context: StepContext, parity: &str) -> Result<Batches, PermanentError> {
    let Numbers { numbers } = context.dependency(&format!("branch_{parity}s"))?;
    Batches::of_size(numbers.len() as u64, context.config("batch_size")?)
}

#[derive(Deserialize, Serialize)]
struct Batch {
    processed_count: usize,
    batch_sum: i64,
}

async fn process(context: StepContext, parity: &str) -> Result<Batch, PermanentError> {
    let Numbers { numbers } = context.dependency(&format!("branch_{parity}s"))?;
    let batch = context.batch_inputs()?.range()?;
    let part = numbers.iter().take(batch.end as usize).skip(batch.start as usize);
    Ok(Batch { processed_count: part.len(), batch_sum: part.sum() })
}

async fn aggregate(context: StepContext, parity: &str) -> Result<Value, PermanentError> {
    let batches: Vec<Batch> = context.batch_results(format_args!("process_{parity}_batch"))?;
    Ok(json!({
        "total_processed": batches.iter().map(|batch| batch.processed_count).sum::<usize>(),
        "total_sum": batches.iter().map(|batch| batch.batch_sum).sum::<i64>(),
        "batch_count": batches.len(),
    }))
}
