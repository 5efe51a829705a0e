//! Decisions: steps whose outcome names the steps after them that are to exist.

use serde::Serialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use tasker_wire::Outcome;

use crate::{IntoOutcome, result::not_json};

/// What the handler of a `decision` step returns.
///
/// ```
/// use serde_json::json;
/// use tasker_sdk::{Decision, PermanentError, StepContext};
///
/// async fn route(context: StepContext) -> Result<Decision, PermanentError> {
///     let amount: u64 = context.input("amount")?;
///     let approval = if amount < 1000 { "auto_approve" } else { "manager_approval" };
///     Ok(Decision::create([approval]).with_result(json!({ "amount": amount })))
/// }
/// ```
#[derive(Debug)]
pub struct Decision {
    steps: Vec<String>,
    result: serde_json::Result<Box<RawValue>>,
}

impl Decision {
    /// The named steps are to exist. Each must depend on the decision directly.
    pub fn create<S: Into<String>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self { steps: steps.into_iter().map(Into::into).collect(), result: to_raw_value(&json!({})) }
    }

    /// No step is to exist, and so none of those that only the decision leads to.
    pub fn none() -> Self {
        Self::create::<String>([])
    }

    /// The result of the decision's step, which the steps after it see; `{}` by default.
    pub fn with_result(self, result: impl Serialize) -> Self {
        Self { result: to_raw_value(&result), ..self }
    }
}

impl IntoOutcome for Decision {
    fn into_outcome(self) -> Outcome {
        let decision = to_raw_value(&json!({ "create": self.steps })).expect("names are JSON");
        match self.result {
            Ok(result) => Outcome::Success { result, metadata: None, decision: Some(decision), batches: None },
            Err(error) => not_json(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PermanentError, StepContext, StepError, Worker, testing::call};

    #[tokio::test]
    async fn the_names_of_created_steps_are_beside_the_result() {
        let worker = Worker::new().handler("route", |context: StepContext| async move {
            let amount: u64 = context.input("amount")?;
            Ok::<_, PermanentError>(Decision::create(["manager", "finance"]).with_result(json!({ "amount": amount })))
        });
        let outcome = call(worker, "route", json!({})).await;
        assert_eq!(outcome, json!({"success": {"result": {"amount": 7}, "decision": {"create": ["manager", "finance"]}}}));
    }

    #[tokio::test]
    async fn a_decision_for_no_step_is_a_decision_too() {
        for decide in [Decision::none, || Decision::create(Vec::<&str>::new())] {
            let worker = Worker::new().handler("route", move |_| async move { Ok::<_, StepError>(decide()) });
            let outcome = call(worker, "route", json!({})).await;
            assert_eq!(outcome, json!({"success": {"result": {}, "decision": {"create": []}}}));
        }
    }

    #[tokio::test]
    async fn a_result_that_is_not_json_is_a_permanent_failure() {
        let pairs = std::collections::BTreeMap::from([((1, 2), 3)]);
        let decide = move || Decision::create(["a"]).with_result(&pairs);
        let worker = Worker::new().handler("route", move |_| std::future::ready(Ok::<_, StepError>(decide())));
        let failure = &call(worker, "route", json!({})).await["failure"];
        assert_eq!((&failure["error_type"], &failure["retryable"]), (&json!("invalid_result"), &json!(false)));
    }
}
