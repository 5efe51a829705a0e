//! Four samples that raise an even number to a power by squaring and multiplying: a chain (n^16), a diamond (n^16), a tree and
//! a mixed graph (both n^64). In the chain and the diamond a result is a JSON number while every language can represent it exactly,
//! and a decimal string beyond. In the tree and the mixed graph it is always a decimal string.

use num_bigint::BigUint;
use serde_json::{Value, json};
use tasker_sdk::{PermanentError, StepContext, Worker};

/// The largest integer that all JSON parsers read exactly: 2^53 - 1.
const EXACT: u64 = (1 << 53) - 1;

type Answer = Result<Value, PermanentError>;

/// Registers the handlers of all samples.
pub fn register(worker: Worker) -> Worker {
    mixed_graph(tree(diamond(chain(worker))))
}

fn chain(worker: Worker) -> Worker {
    worker
        .handler("linear_step_1", |context| squared_input(context, shown))
        .handler("linear_step_2", |context| squared_parent(context, "linear_step_1", shown))
        .handler("linear_step_3", |context| squared_parent(context, "linear_step_2", shown))
        .handler("linear_step_4", |context| squared_parent(context, "linear_step_3", shown))
}

fn diamond(worker: Worker) -> Worker {
    worker
        .handler("diamond_start", |context| squared_input(context, shown))
        .handler("diamond_branch_b", |context| squared_parent(context, "diamond_start", shown))
        .handler("diamond_branch_c", |context| squared_parent(context, "diamond_start", shown))
        .handler("diamond_end", |context| squared_product(context, &["diamond_branch_b", "diamond_branch_c"], shown))
}

fn tree(worker: Worker) -> Worker {
    worker
        .handler("tree_root", |context| squared_input(context, decimal))
        .handler("tree_branch_left", |context| squared_parent(context, "tree_root", decimal))
        .handler("tree_branch_right", |context| squared_parent(context, "tree_root", decimal))
        .handler("tree_leaf_d", |context| squared_parent(context, "tree_branch_left", decimal))
        .handler("tree_leaf_e", |context| squared_parent(context, "tree_branch_left", decimal))
        .handler("tree_leaf_f", |context| squared_parent(context, "tree_branch_right", decimal))
        .handler("tree_leaf_g", |context| squared_parent(context, "tree_branch_right", decimal))
        .handler("tree_final_convergence", |context| {
            squared_product(context, &["tree_leaf_d", "tree_leaf_e", "tree_leaf_f", "tree_leaf_g"], decimal)
        })
}

fn mixed_graph(worker: Worker) -> Worker {
    worker
        .handler("dag_init", |context| squared_input(context, decimal))
        .handler("dag_process_left", |context| squared_parent(context, "dag_init", decimal))
        .handler("dag_process_right", |context| squared_parent(context, "dag_init", decimal))
        .handler("dag_validate", |context| squared_product(context, &["dag_process_left", "dag_process_right"], decimal))
        .handler("dag_transform", |context| squared_parent(context, "dag_process_left", decimal))
        .handler("dag_analyze", |context| squared_parent(context, "dag_process_right", decimal))
        .handler("dag_finalize", |context| squared_product(context, &["dag_validate", "dag_transform", "dag_analyze"], decimal))
}

async fn squared_input(context: StepContext, shown: fn(&BigUint) -> Value) -> Answer {
    Ok(shown(&square(input(&context)?)))
}

async fn squared_parent(context: StepContext, parent: &'static str, shown: fn(&BigUint) -> Value) -> Answer {
    Ok(shown(&square(number(&context, parent)?)))
}

async fn squared_product(context: StepContext, parents: &'static [&'static str], shown: fn(&BigUint) -> Value) -> Answer {
    let factors = parents.iter().map(|parent| number(&context, parent)).collect::<Result<Vec<_>, _>>()?;
    Ok(shown(&square(factors.iter().product())))
}

fn square(n: BigUint) -> BigUint {
    &n * &n
}

fn input(context: &StepContext) -> Result<BigUint, PermanentError> {
    let n: u64 = context.input("even_number")?;
    if n == 0 || n % 2 == 1 {
        return Err(PermanentError::new(format!("even_number is {n}; it must be an even number above 0")));
    }
    Ok(n.into())
}

fn number(context: &StepContext, step: &str) -> Result<BigUint, PermanentError> {
    let result = context.get_dependency_result(step);
    let digits = result.as_str().map_or_else(|| result.to_string(), str::to_owned);
    digits.parse().map_err(|_| PermanentError::new(format!("the result of `{step}` is {result}, which is not a whole number")))
}

fn decimal(n: &BigUint) -> Value {
    json!(n.to_string())
}

fn shown(n: &BigUint) -> Value {
    match u64::try_from(n) {
        Ok(small) if small <= EXACT => json!(small),
        _ => decimal(n),
    }
}
