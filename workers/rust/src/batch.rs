//! Batches: a step that divides work into cursors, and the workers that are made of them.

use std::{collections::BTreeMap, fmt::Display, ops::Range};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use tasker_wire::{Failure, Outcome, limits};

use crate::{IntoOutcome, PermanentError, StepContext, context::parse, result::not_json};

/// What the handler of a `batchable` step returns: a cursor for each worker that is to exist.
///
/// ```
/// use tasker_sdk::{Batches, PermanentError, StepContext};
///
/// async fn analyze(context: StepContext) -> Result<Batches, PermanentError> {
///     let rows: u64 = context.input("rows")?;
///     Batches::of_size(rows, 200)
/// }
/// ```
#[derive(Debug)]
pub struct Batches {
    worker_template: Option<String>,
    cursors: Vec<Cursor>,
    result: serde_json::Result<Box<RawValue>>,
}

/// A cursor as it is sent.
#[derive(Debug, Serialize)]
struct Cursor {
    batch_id: String,
    start: Value,
    end: Value,
    batch_size: u64,
}

impl Batches {
    /// Batches of `size` items, the last one of what is left. Without items there are no batches. It is an error if there would be more
    /// than 10,000, or if `size` is 0.
    pub fn of_size(total: u64, size: u64) -> Result<Self, PermanentError> {
        if size == 0 && total > 0 {
            return Err(invalid("the size of a batch is 0; it must be above 0"));
        }
        let count = if total == 0 { 0 } else { total.div_ceil(size) };
        if count > limits::MADE_STEPS as u64 {
            let least = total.div_ceil(limits::MADE_STEPS as u64);
            let problem = format!("{total} items in batches of {size} are more than {} batches", limits::MADE_STEPS);
            return Err(invalid(format!("{problem}; take at least {least} items a batch")));
        }
        let ranges = (0..count).map(|batch| batch * size..total.min((batch + 1).saturating_mul(size)));
        Ok(Self::of_ranges(ranges))
    }

    /// Equal batches for at most `workers` workers, the last one smaller. A worker without an item is left out.
    pub fn for_workers(total: u64, workers: u64) -> Result<Self, PermanentError> {
        if workers == 0 {
            return Err(invalid("the number of workers is 0; it must be above 0"));
        }
        Self::of_size(total, total.div_ceil(workers).max(1))
    }

    /// A batch for each range. They may overlap.
    pub fn of_ranges(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let (mut cursors, mut total) = (Vec::new(), 0_u64);
        for Range { start, end } in ranges {
            let size = end.saturating_sub(start);
            cursors.push(Cursor { batch_id: batch_id(cursors.len()), start: start.into(), end: end.into(), batch_size: size });
            total = total.saturating_add(size);
        }
        let result = to_raw_value(&json!({ "total_items": total, "worker_count": cursors.len() }));
        Self { worker_template: None, cursors, result }
    }

    /// A batch for each pair of positions, which need not be numbers: texts, dates, the tokens of pages. The end is exclusive, unless
    /// the handlers agree on something else.
    pub fn of_cursors<S: Into<Value>, E: Into<Value>>(cursors: impl IntoIterator<Item = (S, E)>) -> Self {
        let cursor = |(at, (start, end)): (usize, (S, E))| Cursor {
            batch_id: batch_id(at),
            start: start.into(),
            end: end.into(),
            batch_size: 0,
        };
        let cursors: Vec<Cursor> = cursors.into_iter().enumerate().map(cursor).collect();
        let result = to_raw_value(&json!({ "worker_count": cursors.len() }));
        Self { worker_template: None, cursors, result }
    }

    /// There is no work.
    pub fn none() -> Self {
        Self::of_ranges([])
    }

    /// The result of the analyzer's step, which the steps after it see. By default it has `worker_count`, and of numbers `total_items`.
    pub fn with_result(self, result: impl Serialize) -> Self {
        Self { result: to_raw_value(&result), ..self }
    }

    /// The name of the template's `batch_worker` step, which the engine compares with its own. By default it is not said.
    pub fn with_worker_template(self, name: impl Into<String>) -> Self {
        Self { worker_template: Some(name.into()), ..self }
    }

    /// The number of batches.
    pub fn len(&self) -> usize {
        self.cursors.len()
    }

    /// Whether there is no work.
    pub fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// As the engine reads it.
    fn sent(&self) -> Value {
        let mut sent = json!({ "cursors": self.cursors });
        match &self.worker_template {
            _ if self.is_empty() => return json!("no_batches"),
            Some(name) => sent["worker_template"] = json!(name),
            None => {}
        }
        sent
    }
}

impl IntoOutcome for Batches {
    fn into_outcome(self) -> Outcome {
        let batches = to_raw_value(&self.sent()).expect("cursors are JSON");
        match self.result {
            Ok(result) => Outcome::Success { result, metadata: None, decision: None, batches: Some(batches) },
            Err(error) => not_json(&error),
        }
    }
}

/// Ids as in all SDKs: `001`, `002`, ….
fn batch_id(at: usize) -> String {
    format!("{:03}", at + 1)
}

fn invalid(problem: impl Into<String>) -> PermanentError {
    PermanentError::new(problem).with_code("invalid_batches")
}

/// The own inputs of a worker, from [`StepContext::batch_inputs`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BatchInputs {
    /// The worker's part of the work.
    pub cursor: BatchCursor,
    /// Settings of `batch_config` in the template.
    #[serde(default)]
    pub batch_metadata: BatchMetadata,
    /// Whether the worker stands for a batch without work, because its analyzer found none.
    #[serde(default)]
    pub is_no_op: bool,
}

/// The worker's part of the work.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct BatchCursor {
    /// Unique in the batch: the worker's step is named `{pattern}_{batch_id}`.
    pub batch_id: String,
    /// Where to begin; a number unless the analyzer chose something else.
    pub start_cursor: Value,
    /// Where to end, exclusive.
    pub end_cursor: Value,
    /// The number of items, or 0 if positions are no numbers.
    #[serde(default)]
    pub batch_size: u64,
    /// What the analyzer's cursor has beyond these.
    #[serde(flatten)]
    pub further: Map<String, Value>,
}

/// Settings of `batch_config` in the template.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct BatchMetadata {
    /// The field that cursors count by.
    pub cursor_field: Option<String>,
    /// `fail_fast`, `continue_on_failure` or `isolate`.
    pub failure_strategy: Option<String>,
}

impl BatchInputs {
    /// The items of the batch. It is an error if the positions are no whole numbers.
    pub fn range(&self) -> Result<Range<u64>, PermanentError> {
        let (start, end) = (&self.cursor.start_cursor, &self.cursor.end_cursor);
        let whole = |position: &Value| position.as_u64();
        whole(start).zip(whole(end)).map(|(start, end)| start..end).ok_or_else(|| {
            PermanentError::new(format!("the batch is from {start} to {end}, which are no whole numbers"))
                .with_code("invalid_batches")
        })
    }

    /// The result of a worker without work, by which the steps after it know it: see [`StepContext::batch_results`].
    pub fn no_op_result(&self) -> Value {
        json!({ "batch_id": self.cursor.batch_id, "no_op": true, "processed_count": 0 })
    }
}

impl StepContext {
    /// The cursor of a step that is a worker of a batch. It is an error for any other step.
    pub fn batch_inputs(&self) -> Result<BatchInputs, PermanentError> {
        let inputs = self.message().step_inputs.as_ref().map_or("null", |inputs| inputs.get());
        parse(inputs, "the cursor of the batch")
    }

    /// The results of a batch's workers in the order of their names, without those whose failure is tolerated (see
    /// [`batch_errors`](Self::batch_errors)) and without a worker that had no work. It is an error if workers failed and none succeeded. `pattern` is the
    /// name of the template's `batch_worker` step.
    pub fn batch_results<T: DeserializeOwned>(&self, pattern: impl Display) -> Result<Vec<T>, PermanentError> {
        let prefix = format!("{pattern}_");
        let workers = self.message().dependency_results.iter().filter(|(name, _)| name.starts_with(&prefix));
        let with_work: Vec<_> = workers.filter(|(_, result)| has_work(result)).collect();
        let failed = self.batch_errors(&pattern);
        if let (true, Some((name, failure))) = (with_work.is_empty(), failed.first_key_value()) {
            let problem =
                format!("no worker of `{pattern}` succeeded, and {} failed; `{name}`: {}", failed.len(), failure.message);
            return Err(PermanentError::new(problem).with_code("no_batch_results"));
        }
        let with_work = with_work.into_iter();
        with_work.map(|(name, result)| parse(result.get(), format_args!("the result of `{name}`"))).collect()
    }

    /// The brief failures of a batch's workers, by the names of their steps, that the template tolerates. `pattern` is the name of the
    /// template's `batch_worker` step.
    pub fn batch_errors(&self, pattern: impl Display) -> BTreeMap<&str, Failure> {
        let prefix = format!("{pattern}_");
        self.dependency_errors().into_iter().filter(|(name, _)| name.starts_with(&prefix)).collect()
    }
}

/// Whether a worker's result is of work: neither null nor marked as that of a worker without any.
fn has_work(result: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Marked {
        no_op: bool,
    }
    let is_no_op = serde_json::from_str(result.get()).is_ok_and(|Marked { no_op }| no_op);
    result.get() != "null" && !is_no_op
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StepError, Worker, testing::call};

    fn cursor(batch_id: &str, start: u64, end: u64) -> Value {
        json!({ "batch_id": batch_id, "start": start, "end": end, "batch_size": end - start })
    }

    type Analyze = fn() -> Result<Batches, PermanentError>;

    async fn analyzed(batches: Analyze) -> Value {
        let worker = Worker::new().handler("analyze", move |_| std::future::ready(batches()));
        call(worker, "analyze", json!({})).await
    }

    #[tokio::test]
    async fn items_are_divided_into_batches_whose_last_one_takes_what_is_left() {
        let outcome = analyzed(|| Batches::of_size(250, 100)).await;
        let cursors = [cursor("001", 0, 100), cursor("002", 100, 200), cursor("003", 200, 250)];
        let result = json!({"total_items": 250, "worker_count": 3});
        assert_eq!(outcome, json!({"success": {"result": result, "batches": {"cursors": cursors}}}));
    }

    #[tokio::test]
    async fn an_analyzer_may_have_a_result_of_its_own_and_name_its_workers() {
        let outcome =
            analyzed(|| Ok(Batches::of_size(5, 5)?.with_result(json!({"path": "a"})).with_worker_template("process"))).await;
        let batches = json!({"cursors": [cursor("001", 0, 5)], "worker_template": "process"});
        assert_eq!(outcome, json!({"success": {"result": {"path": "a"}, "batches": batches}}));
    }

    #[tokio::test]
    async fn without_items_there_are_no_batches() {
        let result = json!({"total_items": 0, "worker_count": 0});
        for batches in
            [|| Batches::of_size(0, 100), || Batches::for_workers(0, 4), || Ok(Batches::none().with_worker_template("w"))]
        {
            assert_eq!(analyzed(batches).await, json!({"success": {"result": result, "batches": "no_batches"}}));
        }
    }

    #[tokio::test]
    async fn positions_need_not_be_numbers() {
        let outcome = analyzed(|| Ok(Batches::of_cursors([("2026-01-01", "2026-02-01")]))).await;
        let cursor = json!({"batch_id": "001", "start": "2026-01-01", "end": "2026-02-01", "batch_size": 0});
        assert_eq!(outcome["success"]["batches"], json!({"cursors": [cursor]}));
        assert_eq!(outcome["success"]["result"], json!({"worker_count": 1}));
    }

    #[tokio::test]
    async fn batches_that_cannot_be_are_permanent_failures_that_say_what_can() {
        let wrong: [(Analyze, &str); 4] = [
            (|| Batches::of_size(10, 0), "the size of a batch is 0"),
            (|| Batches::of_size(u64::MAX, 1), "more than 10000 batches; take at least 1844674407370956 items"),
            (|| Batches::of_size(20_002, 2), "more than 10000 batches; take at least 3 items"),
            (|| Batches::for_workers(10, 0), "the number of workers is 0"),
        ];
        for (batches, words) in wrong {
            let failure = &analyzed(batches).await["failure"];
            assert_eq!((&failure["retryable"], &failure["error_code"]), (&json!(false), &json!("invalid_batches")));
            assert!(failure["message"].as_str().unwrap().contains(words), "{failure}");
        }
        assert_eq!(Batches::of_size(20_000, 2).unwrap().len(), 10_000);
        assert_eq!(Batches::of_size(u64::MAX, u64::MAX).unwrap().len(), 1);
    }

    #[test]
    fn every_item_is_in_one_batch() {
        let items = |batches: &Batches| -> Vec<u64> {
            let range = |cursor: &Cursor| cursor.start.as_u64().unwrap()..cursor.end.as_u64().unwrap();
            batches.cursors.iter().flat_map(range).collect()
        };
        for total in 0..40 {
            for size in 1..12 {
                for batches in [Batches::of_size(total, size).unwrap(), Batches::for_workers(total, size).unwrap()] {
                    assert_eq!(items(&batches), (0..total).collect::<Vec<_>>(), "{total} by {size}");
                    assert!(batches.cursors.iter().all(|cursor| cursor.batch_size > 0), "{total} by {size}");
                }
                assert!(Batches::for_workers(total, size).unwrap().len() as u64 <= size);
            }
        }
    }

    fn inputs(is_no_op: bool) -> Value {
        let cursor = json!({"batch_id": "002", "start_cursor": 5, "end_cursor": 9, "batch_size": 4, "shard": "b"});
        let metadata = json!({"cursor_field": "id", "failure_strategy": "fail_fast"});
        json!({"step_inputs": {"cursor": cursor, "batch_metadata": metadata, "is_no_op": is_no_op}})
    }

    #[tokio::test]
    async fn a_worker_has_its_cursor_and_the_settings_of_its_template() {
        let worker = || {
            Worker::new().handler("work", |context: StepContext| async move {
                let inputs = context.batch_inputs()?;
                if inputs.is_no_op {
                    return Ok(inputs.no_op_result());
                }
                let BatchInputs { cursor, batch_metadata, .. } = &inputs;
                assert_eq!((&cursor.batch_id[..], cursor.batch_size, &cursor.further["shard"]), ("002", 4, &json!("b")));
                assert_eq!(batch_metadata.failure_strategy.as_deref(), Some("fail_fast"));
                Ok::<_, PermanentError>(json!(inputs.range()?.sum::<u64>()))
            })
        };
        assert_eq!(call(worker(), "work", inputs(false)).await, json!({"success": {"result": 5 + 6 + 7 + 8}}));
        let nothing = json!({"batch_id": "002", "no_op": true, "processed_count": 0});
        assert_eq!(call(worker(), "work", inputs(true)).await, json!({"success": {"result": nothing}}));
        let failure = &call(worker(), "work", json!({})).await["failure"];
        assert_eq!(failure["retryable"], json!(false));
        assert!(failure["message"].to_string().contains("the cursor of the batch is not as expected"), "{failure}");
    }

    #[test]
    fn positions_that_are_no_numbers_are_no_range() {
        for (start, end) in [(json!("a"), json!("b")), (json!(0), json!(null)), (json!(-1), json!(5)), (json!(0.5), json!(5))] {
            let cursor = json!({"batch_id": "001", "start_cursor": start, "end_cursor": end});
            let inputs: BatchInputs = serde_json::from_value(json!({ "cursor": cursor })).unwrap();
            assert!(inputs.range().unwrap_err().message.contains("no whole numbers"));
        }
    }

    #[tokio::test]
    async fn a_convergence_finds_the_results_of_workers_that_had_work() {
        let worker = || {
            Worker::new().handler("sum", |context: StepContext| async move {
                let results: Vec<Value> = context.batch_results("work")?;
                Ok::<_, StepError>(json!(results))
            })
        };
        let results =
            json!({"work_002": {"n": 2}, "work_001": {"n": 1, "no_op": false}, "work_003": null, "worker": 5, "work": 6});
        let found = call(worker(), "sum", json!({ "dependency_results": results })).await;
        assert_eq!(found["success"]["result"], json!([{"n": 1, "no_op": false}, {"n": 2}]));
        let results = json!({"work_000": {"batch_id": "000", "no_op": true, "processed_count": 0}});
        let found = call(worker(), "sum", json!({ "dependency_results": results })).await;
        assert_eq!(found["success"]["result"], json!([]));
        let worker = Worker::new().handler("sum", |context: StepContext| async move { context.batch_results::<u64>("work") });
        let failure = &call(worker, "sum", json!({"dependency_results": {"work_001": "x"}})).await["failure"];
        assert!(failure["message"].to_string().contains("the result of `work_001` is not as expected"), "{failure}");
    }

    #[tokio::test]
    async fn workers_whose_failure_is_tolerated_are_named_and_nothing_is_aggregated_of_them_alone() {
        let worker = || {
            Worker::new().handler("sum", |context: StepContext| async move {
                let results: Vec<u64> = context.batch_results("work")?;
                let failed: Vec<_> = context.batch_errors("work").into_keys().map(str::to_owned).collect();
                Ok::<_, PermanentError>(json!([results, failed]))
            })
        };
        let failure = json!({"message": "no file", "error_type": "permanent_error", "retryable": false});
        let errors = json!({"work_002": failure, "worker": failure});
        let some = json!({"dependency_results": {"work_001": 5, "work_002": null}, "dependency_errors": errors});
        assert_eq!(call(worker(), "sum", some).await["success"]["result"], json!([[5], ["work_002"]]));
        let none = json!({"dependency_results": {"work_002": null}, "dependency_errors": errors});
        let failure = &call(worker(), "sum", none).await["failure"];
        assert_eq!((&failure["error_code"], &failure["retryable"]), (&json!("no_batch_results"), &json!(false)));
        assert_eq!(failure["message"], "no worker of `work` succeeded, and 1 failed; `work_002`: no file");
    }
}
