//! A database, an engine over it, and scripted workers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::{Value, json, value::RawValue};
use tasker_domain::request::{TaskRequest, parse_task_request};
use tasker_engine::{By, Engine, SubmitError, Submitted};
use tasker_queue::{InProcess, Outgoing, Queue};
pub use tasker_test_support::PATIENCE;
use tasker_test_support::{Database, poll};
use tasker_wire::{
    Answer, CompleteStep, Evaluate, Outcome, RunStep, StepId, StepState, TaskId, TaskState, message::VERSION, outcome::Failure,
};
use tokio_util::sync::CancellationToken;

pub struct Rig<Q = InProcess> {
    pub db: Database,
    pub engine: Arc<Engine<Q>>,
    pub sql: tokio_postgres::Client,
    stop: CancellationToken,
    clock_ms: AtomicI64,
}

/// A change of a function in the database: its name, a text of it and the replacement.
pub type Plant = (&'static str, &'static str, &'static str);

/// A step as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub state: StepState,
    pub lease: i32,
    pub attempt: i32,
    pub result: Option<Value>,
    pub error: Option<Value>,
}

impl Rig {
    /// An engine that does nothing by itself.
    pub async fn still() -> Self {
        Self::over(InProcess::default()).await
    }

    /// An engine whose loops run, and workers of the pool `default` that answer by `handler`, `at_once` at a time.
    pub async fn running(at_once: usize, handler: impl Fn(&RunStep) -> Outcome + Send + Sync + 'static) -> Self {
        let rig = Self::still().await;
        rig.start(at_once, handler);
        rig
    }

    /// Starts the loops and workers.
    pub fn start(&self, at_once: usize, handler: impl Fn(&RunStep) -> Outcome + Send + Sync + 'static) {
        tokio::spawn(run(self.engine.clone(), self.stop.clone(), at_once, handler));
    }

    /// Starts the loops, without workers.
    pub fn start_loops(&self) {
        tokio::spawn(tasker_server::drain_queue(self.engine.clone(), self.stop.clone()));
    }

    /// The next message, as a worker gets it.
    pub async fn receive(&self) -> RunStep {
        self.receive_up_to(1).await.remove(0)
    }

    /// At least one message, at most `max`.
    pub async fn receive_up_to(&self, max: usize) -> Vec<RunStep> {
        tokio::time::timeout(PATIENCE, tasker_test_support::receive(&self.engine, max)).await.expect("a step is dispatched")
    }

    /// The messages that wait now, by step name.
    pub async fn receive_all(&self) -> BTreeMap<String, RunStep> {
        let mut runs = BTreeMap::new();
        while self.engine.queue().waiting() > 0 {
            let run = self.receive().await;
            runs.insert(run.step_name.clone(), run);
        }
        runs
    }

    /// The process was killed, and another one starts on the same database.
    pub async fn restart(&mut self) {
        self.engine = engine(&self.db, InProcess::default());
        self.engine.take_over().await.unwrap_or_else(|e| panic!("{e}"));
    }
}

impl<Q: Queue> Rig<Q> {
    /// An engine over this queue, which does nothing by itself.
    pub async fn over(queue: Q) -> Self {
        let db = tasker_test_support::database().await;
        let sql = db.client().await;
        let engine = engine(&db, queue);
        Self { db, engine, sql, stop: CancellationToken::new(), clock_ms: AtomicI64::new(0) }
    }

    pub async fn register(&self, yaml: &str) {
        self.engine.register_template(yaml).await.unwrap_or_else(|e| panic!("{e}"));
    }

    pub async fn submit(&self, name: &str, context: Value) -> TaskId {
        self.try_submit(json!({"name": name, "context": context})).await.unwrap_or_else(|e| panic!("{e}")).task
    }

    pub async fn try_submit(&self, request: Value) -> Result<Submitted, SubmitError> {
        self.engine.submit(request_of(&request.to_string()), None).await
    }

    pub async fn answer(&self, run: &RunStep, outcome: Outcome) -> Answer {
        self.complete(vec![run.complete(outcome, "scripted", 1)]).await[0]
    }

    pub async fn complete(&self, batch: Vec<CompleteStep>) -> Vec<Answer> {
        self.engine.complete(batch).await.unwrap_or_else(|e| panic!("{e}"))
    }

    /// Waits until the task has finished.
    pub async fn finished(&self, task: TaskId) -> TaskState {
        self.engine.wait(task, PATIENCE).await;
        let state = self.state(task).await;
        assert!(state.is_finished(), "the task is still {state}: {:#?}", self.steps(task).await);
        state
    }

    pub async fn state(&self, task: TaskId) -> TaskState {
        self.engine.store().task_state(task).await.unwrap_or_else(|e| panic!("{e}")).expect("the task exists")
    }

    pub async fn steps(&self, task: TaskId) -> BTreeMap<String, Step> {
        let sql = "select name, state, lease, attempt, result, error from tasker.steps where task_id = $1";
        let rows = self.sql.query(sql, &[&task.uuid()]).await.unwrap();
        rows.iter()
            .map(|r| {
                let state = StepState::parse(r.get("state")).unwrap();
                let step = Step {
                    state,
                    lease: r.get("lease"),
                    attempt: r.get("attempt"),
                    result: r.get("result"),
                    error: r.get("error"),
                };
                (r.get("name"), step)
            })
            .collect()
    }

    pub async fn step(&self, task: TaskId, name: &str) -> Step {
        self.steps(task).await.remove(name).unwrap_or_else(|| panic!("no step {name}"))
    }

    pub async fn step_id(&self, task: TaskId, name: &str) -> StepId {
        let sql = "select no from tasker.steps where task_id = $1 and name = $2";
        task.step(self.sql.query_one(sql, &[&task.uuid(), &name]).await.unwrap().get(0))
    }

    /// The recorded outcomes of a step, by lease: `[lease, attempt, outcome, applied]`.
    pub async fn attempts(&self, task: TaskId, step: &str) -> Vec<Value> {
        let sql = format!(
            "select json_build_array(a.lease, a.attempt, a.outcome, a.applied) as row from tasker.outcomes a \
             join tasker.steps s using (task_id, no) where s.task_id = '{task}' and s.name = '{step}' order by a.lease"
        );
        self.rows(&sql).await.into_iter().map(|mut r| r["row"].take()).collect()
    }

    /// A wake-up for a step under its current lease.
    pub async fn wake_up(&self, task: TaskId, name: &str) -> Evaluate {
        Evaluate { v: VERSION, step_id: self.step_id(task, name).await, lease: self.step(task, name).await.lease }
    }

    /// Milliseconds until the `wake_at` of a step.
    pub async fn wakes_in_ms(&self, task: TaskId, name: &str) -> Option<i64> {
        let sql = "select round(extract(epoch from wake_at - tasker.clock()) * 1000)::int8 from tasker.steps \
                   where task_id = $1 and name = $2 and wake_at is not null";
        self.sql.query_opt(sql, &[&task.uuid(), &name]).await.unwrap().map(|r| r.get(0))
    }

    /// Stops the database's clock; from now on only [`Rig::pass`] moves it.
    pub async fn stop_clock(&self) {
        self.clock_ms.store(1_900_000_000_000, Relaxed);
        self.pass(Duration::ZERO).await;
    }

    /// Moves a stopped clock on.
    pub async fn pass(&self, time: Duration) {
        let ms = time.as_millis() as i64 + self.clock_ms.fetch_add(time.as_millis() as i64, Relaxed);
        let clock = "create or replace function tasker.clock() returns timestamptz language sql stable";
        self.execute(&format!("{clock} as 'select timestamptz ''epoch'' + interval ''{ms} ms'''")).await;
    }

    /// One number of the database.
    pub async fn count(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")).get(0)
    }

    /// The rows of a query.
    pub async fn rows(&self, sql: &str) -> Vec<Value> {
        let sql = format!("select to_json(x) from ({sql}) x");
        let rows = self.sql.query(&sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        rows.iter().map(|r| r.get(0)).collect()
    }

    pub async fn execute(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Changes a function.
    pub async fn plant(&self, (function, text, replacement): (&str, &str, &str)) {
        let sql = format!("select pg_get_functiondef(oid) from pg_proc where proname = '{function}'");
        let body: String = self.sql.query_one(&sql, &[]).await.unwrap().get(0);
        assert!(body.contains(text), "{function} has changed, and has no {text:?}");
        self.execute(&body.replace(text, replacement)).await;
    }

    /// Waits until a query of one boolean is true.
    pub async fn until(&self, sql: &str) {
        let look = async || {
            let row = self.sql.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
            row.get::<_, bool>(0).then_some(())
        };
        poll(Duration::from_millis(2), look).await.unwrap_or_else(|| panic!("never true: {sql}"));
    }

    /// The stored counters and readiness agree with the facts, and the steps with what was decided.
    pub async fn check(&self) {
        let report = self.engine.examine().await.unwrap_or_else(|e| panic!("{e}"));
        assert!(report.differences.is_empty(), "{:#?}", report.differences);
    }
}

impl<Q> Drop for Rig<Q> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An engine over the test's database.
pub fn engine<Q: Queue>(db: &Database, queue: Q) -> Arc<Engine<Q>> {
    tasker_test_support::engine(&db.url, queue)
}

/// The loops of an engine, and workers of the pool `default` that answer by `handler`, `at_once` at a time.
pub async fn run(
    engine: Arc<Engine<InProcess>>,
    stop: CancellationToken,
    at_once: usize,
    handler: impl Fn(&RunStep) -> Outcome + Send + Sync + 'static,
) {
    let work = async {
        loop {
            let runs = tasker_test_support::receive(&engine, at_once).await;
            let answers = runs.iter().map(|run| to_completions(run.complete(handler(run), "scripted", 1))).collect();
            engine.queue().send(answers).await;
        }
    };
    tokio::select! {
        () = tasker_server::drain_queue(engine.clone(), stop.clone()) => {}
        () = work => {}
    }
}

pub fn request_of(request: &str) -> TaskRequest {
    parse_task_request(request.as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

fn to_completions(completion: CompleteStep) -> Outgoing {
    Outgoing::CompleteStep(Arc::new(completion))
}

pub fn success(result: Value) -> Outcome {
    Outcome::success(RawValue::from_string(result.to_string()).unwrap(), None)
}

/// JSON as the engine takes it.
pub fn raw(value: Value) -> Option<Box<RawValue>> {
    Some(RawValue::from_string(value.to_string()).unwrap())
}

pub fn failure(message: &str) -> Outcome {
    Outcome::Failure(Failure::retryable("handler_error", message))
}

pub fn permanent(message: &str) -> Outcome {
    Outcome::Failure(Failure::permanent("permanent_error", message))
}

pub fn by(reason: &str) -> By {
    By { actor: "operator".into(), reason: reason.into(), metadata: None }
}

/// A template of the given steps: `name`, its parents. Retries are due at once.
pub fn template(name: &str, steps: &[(&str, &[&str])]) -> String {
    let step = |(name, parents): &(&str, &[&str])| json!({"name": name, "dependencies": parents, "retry": {"backoff": "none"}});
    workflow(name, json!(steps.iter().map(step).collect::<Vec<_>>()))
}

/// A template of the given steps, each with a handler of its own name.
pub fn workflow(name: &str, mut steps: Value) -> String {
    for step in steps.as_array_mut().expect("steps are a list") {
        step["handler"] = json!({"callable": step["name"]});
    }
    json!({"name": name, "version": "1.0.0", "identity_strategy": "always_unique", "steps": steps}).to_string()
}
