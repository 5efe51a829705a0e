//! The interface of an engine, called without a network, and a worker that the test moves.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value, json, value::RawValue};
use tasker_engine::Engine;
use tasker_process::Problems;
use tasker_queue::InProcess;
use tasker_test_support::Database;
use tasker_wire::{Outcome, RunStep, outcome::Failure};
use tower::ServiceExt;

/// Few, so that a test reaches it; fewer than connections to the database.
pub const MAX_REQUESTS: usize = 3;
/// Dispatched steps with which the queue is full; no other test has so many.
pub const CAPACITY: usize = 8;

pub struct Rig {
    pub database: Database,
    pub engine: Arc<Engine<InProcess>>,
    pub problems: Problems,
    router: Router,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Rig {
    /// With the template `ns/small`: a, then b.
    pub async fn new() -> Self {
        let database = tasker_test_support::database().await;
        let rig = Self::at(&database.url.clone(), database);
        let answer = rig.post("/v1/templates", &template("small", "1.0.0")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        rig
    }

    /// Over a database that may not be there.
    pub fn at(url: &str, database: Database) -> Self {
        let engine = tasker_test_support::engine(url, InProcess::with_capacity(CAPACITY));
        let problems = Problems::default();
        let router = tasker_api::router(
            engine.clone(),
            tasker_api::ApiSettings { worker_id: "worker-1".into(), max_requests: MAX_REQUESTS, problems: problems.clone() },
        );
        Self { database, engine, problems, router }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {:?}", String::from_utf8_lossy(&bytes)));
        assert_eq!(parts.headers["content-type"], "application/json");
        assert_eq!(parts.headers["x-request-id"].len(), 36);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, uri: &str) -> Answer {
        self.send(Request::get(uri).body(Body::empty()).unwrap()).await
    }

    pub async fn post(&self, uri: &str, body: &Value) -> Answer {
        self.with_body("POST", uri, body.to_string()).await
    }

    pub async fn patch(&self, uri: &str, body: &Value) -> Answer {
        self.with_body("PATCH", uri, body.to_string()).await
    }

    pub async fn delete(&self, uri: &str) -> Answer {
        self.send(Request::delete(uri).body(Body::empty()).unwrap()).await
    }

    pub async fn with_body(&self, method: &str, uri: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }

    /// A task of the small template; its URI.
    pub async fn submit(&self, context: Value) -> String {
        let answer = self.post("/v1/tasks", &json!({"name": "small", "namespace": "ns", "context": context})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.headers["location"].to_str().unwrap().to_owned()
    }

    /// The next message.
    pub async fn receive(&self) -> RunStep {
        tasker_test_support::receive(&self.engine, 1).await.remove(0)
    }

    /// The next message, answered so.
    pub async fn answer(&self, outcome: Outcome) -> RunStep {
        let run = self.receive().await;
        self.complete(&run, outcome).await;
        run
    }

    /// Answers a message.
    pub async fn complete(&self, run: &RunStep, outcome: Outcome) -> tasker_wire::Answer {
        self.engine.complete(vec![run.complete(outcome, "worker-7", 12)]).await.unwrap()[0]
    }

    /// Every row of every table, as text.
    pub async fn all_rows(&self) -> Vec<String> {
        let client = self.database.client().await;
        let tables = "select table_name::text from information_schema.tables \
                      where table_schema = 'tasker' and table_type = 'BASE TABLE' order by 1";
        let mut all = Vec::new();
        for table in client.query(tables, &[]).await.unwrap() {
            let table: String = table.get(0);
            let rows = client.query(&format!("select t::text from tasker.{table} t order by 1"), &[]).await.unwrap();
            all.extend(rows.iter().map(|row| format!("{table} {}", row.get::<_, String>(0))));
        }
        all
    }

    /// Rows of a table.
    pub async fn count(&self, table: &str) -> i64 {
        self.database.client().await.query_one(&format!("select count(*) from tasker.{table}"), &[]).await.unwrap().get(0)
    }
}

impl Answer {
    /// The places of the faults.
    pub fn places(&self) -> Vec<&str> {
        let faults = self.body["error"]["details"]["faults"].as_array().unwrap_or_else(|| panic!("no faults: {self:?}"));
        faults.iter().map(|f| f["place"].as_str().unwrap()).collect()
    }

    /// The error's code.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

pub fn template(name: &str, version: &str) -> Value {
    json!({
        "name": name, "namespace_name": "ns", "version": version, "description": "Two steps.",
        "steps": [
            {"name": "a", "handler": {"callable": "a"}, "retry": {"max_attempts": 2, "backoff": "linear", "backoff_base_ms": 60_000}},
            {"name": "b", "handler": {"callable": "b"}, "dependencies": ["a"]},
        ],
    })
}

pub fn success(result: &str) -> Outcome {
    Outcome::success(RawValue::from_string(result.into()).unwrap(), None)
}

pub fn failure(retryable: bool) -> Outcome {
    let context = Some(json!({"tried": 1}));
    Outcome::Failure(Failure {
        error_code: Some("503".into()),
        delay_seconds: Some(90.2),
        context,
        retryable,
        ..Failure::permanent("upstream", "it broke")
    })
}
