//! A database, an engine over it, and workers that do what a test says.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json, value::RawValue};
use tasker_domain::{
    Outcome, RunStep, StepState, TaskId, TaskState,
    outcome::Failure,
    request::{TaskRequest, parse_task_request},
    token::SigningKey,
};
use tasker_engine::{Answer, By, Engine, InProcess, Settings, Submitted};
use tasker_store::Store;
use tasker_test_support::Database;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine; a test that gets here has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Everything a story needs.
pub struct World {
    pub db: Database,
    pub engine: Arc<Engine<InProcess>>,
    pub sql: tokio_postgres::Client,
    stop: CancellationToken,
}

/// A step as the database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub state: StepState,
    pub lease: i32,
    pub attempt: i32,
    pub result: Option<Value>,
    pub error: Option<Value>,
}

impl World {
    /// An engine that does nothing by itself: the test moves it.
    pub async fn still() -> Self {
        let db = tasker_test_support::database().await;
        let sql = db.client().await;
        let engine = engine(&db, "test");
        Self { db, engine, sql, stop: CancellationToken::new() }
    }

    /// An engine whose loops run, and workers of the pool `default` that answer by `handler`, `at_once` at a time.
    pub async fn running(at_once: usize, handler: impl Fn(&RunStep) -> Outcome + Send + Sync + 'static) -> Self {
        let world = Self::still().await;
        world.start(at_once, handler);
        world
    }

    /// Lets the loops run, and workers.
    pub fn start(&self, at_once: usize, handler: impl Fn(&RunStep) -> Outcome + Send + Sync + 'static) {
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        tokio::spawn(async move { engine.run(stop).await });
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        tokio::spawn(async move {
            loop {
                let runs = tokio::select! {
                    runs = engine.receive("default", at_once) => runs,
                    () = stop.cancelled() => return,
                };
                let answers = runs.iter().map(|run| run.complete(handler(run), "scripted", 1)).map(to_completions).collect();
                tasker_domain::Queue::send(engine.queue(), answers).await;
            }
        });
    }

    pub async fn register(&self, yaml: &str) {
        self.engine.register_template(yaml).await.unwrap_or_else(|e| panic!("{e}"));
    }

    pub async fn submit(&self, name: &str, context: Value) -> TaskId {
        self.try_submit(json!({"name": name, "context": context})).await.unwrap_or_else(|e| panic!("{e}")).task
    }

    pub async fn try_submit(&self, request: Value) -> Result<Submitted, tasker_engine::SubmitError> {
        self.engine.submit(request_of(&request), None).await
    }

    /// The next message, as a worker gets it.
    pub async fn receive(&self) -> RunStep {
        let mut runs = tokio::time::timeout(PATIENCE, self.engine.receive("default", 1)).await.expect("a step is handed over");
        runs.remove(0)
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

    pub async fn answer(&self, run: &RunStep, outcome: Outcome) -> Answer {
        let answers = self.engine.complete(vec![run.complete(outcome, "scripted", 1)]).await.unwrap_or_else(|e| panic!("{e}"));
        answers[0]
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
                let step = Step { state, lease: r.get("lease"), attempt: r.get("attempt"), result: r.get("result"), error: r.get("error") };
                (r.get("name"), step)
            })
            .collect()
    }

    pub async fn step(&self, task: TaskId, name: &str) -> Step {
        self.steps(task).await.remove(name).unwrap_or_else(|| panic!("no step {name}"))
    }

    /// One number of the database.
    pub async fn count(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e}")).get(0)
    }

    /// The counters and readiness that the facts give are the stored ones.
    pub async fn check(&self) {
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An engine over the test's database.
pub fn engine(db: &Database, environment: &str) -> Arc<Engine<InProcess>> {
    let settings = Settings {
        environment: environment.into(),
        signing_keys: vec![SigningKey { id: "test".into(), secret: vec![7; 32] }],
        pools: HashSet::from(["default".to_owned()]),
        revise_templates: false,
        seed: 1,
    };
    let store = Store::new(&db.url, 4).unwrap_or_else(|e| panic!("{e}"));
    Engine::new(store, InProcess::default(), settings)
}

pub fn request_of(request: &Value) -> TaskRequest {
    parse_task_request(request.to_string().as_bytes()).unwrap_or_else(|e| panic!("{e}"))
}

fn to_completions(completion: tasker_domain::CompleteStep) -> tasker_domain::Outgoing {
    let message = tasker_domain::Message::CompleteStep(Box::new(completion));
    tasker_domain::Outgoing { to: tasker_domain::Destination::Completions, message, delay: Duration::ZERO }
}

pub fn success(result: Value) -> Outcome {
    Outcome::Success { result: RawValue::from_string(result.to_string()).unwrap(), metadata: None }
}

pub fn failure(message: &str) -> Outcome {
    Outcome::Failure(Failure::retryable("handler_error", message))
}

pub fn permanent(message: &str) -> Outcome {
    Outcome::Failure(Failure::permanent("permanent_error", message))
}

pub fn by(reason: &str) -> By {
    By { actor: "operator".into(), reason: reason.into() }
}

/// A template of the given steps: `name`, its parents.
pub fn template(name: &str, steps: &[(&str, &[&str])]) -> String {
    let steps: Vec<Value> = steps
        .iter()
        .map(|(name, parents)| json!({"name": name, "dependencies": parents, "handler": {"callable": name}, "retry": {"backoff": "none"}}))
        .collect();
    json!({"name": name, "version": "1.0.0", "identity_strategy": "always_unique", "steps": steps}).to_string()
}
