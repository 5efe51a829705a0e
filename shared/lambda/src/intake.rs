//! `task-intake`: submits tasks, from HTTP requests and from the intake queue.

use std::sync::Arc;

use futures::future::join_all;
use tasker_api::{ApiSettings, intake_router};
use tasker_domain::request::{TaskRequest, parse_task_request};
use tasker_engine::{Engine, React, Reaction, SubmitError};
use tasker_queue::{Content, Disposition, Queue, RawMessage, Unreadable};
use tasker_store::StoreError;
use tasker_wire::Lease;

use crate::{
    Instance,
    events::IntakeEvent,
    http,
    messages::messages,
    serve::{Invocation, InvocationResult},
};

#[derive(Debug, Clone)]
struct QueuedRequest {
    request: Box<TaskRequest>,
    traceparent: Option<String>,
}

impl Content for QueuedRequest {
    const KIND: &'static str = "task request";

    fn read(message: RawMessage<'_>) -> Result<Self, Unreadable> {
        let mut request = parse_task_request(message.body.as_bytes())
            .map_err(|e| Unreadable::Malformed(format!("it is not a task request: {e}")))?;
        // The queue may deliver a message more than once, with the same id. A redrive keeps that id.
        request.message_id = Some(message.first_id.to_owned());
        Ok(Self { request: Box::new(request), traceparent: message.traceparent })
    }

    fn lease(&self) -> Option<Lease> {
        None
    }
}

pub async fn intake(instance: Instance, invocation: Invocation<IntakeEvent>) -> InvocationResult {
    let time_left = invocation.deadline.time_left();
    match invocation.event {
        IntakeEvent::Http(request) => {
            http::answer(&instance, *request, time_left, |engine| intake_router(engine, ApiSettings::default())).await
        }
        IntakeEvent::Messages(records) => {
            messages(&instance, records, time_left, |engine, requests: Arc<[QueuedRequest]>| async move {
                submit(&engine, &requests).await
            })
            .await
        }
    }
}

/// Submits all requests concurrently, so the engine inserts them together.
async fn submit<Q: Queue>(engine: &Arc<Engine<Q>>, requests: &[QueuedRequest]) -> Result<Vec<Disposition>, StoreError> {
    let submits = requests.iter().map(async |QueuedRequest { request, traceparent }| {
        disposition(engine.submit(TaskRequest::clone(request), traceparent.clone()).await)
    });
    join_all(submits).await.into_iter().collect()
}

fn disposition<T>(submitted: Result<T, SubmitError>) -> Result<Disposition, StoreError> {
    match submitted {
        Ok(_) | Err(SubmitError::Duplicate { .. }) => Ok(Disposition::Done),
        Err(SubmitError::Store(error)) if error.reaction() == Reaction::OurDefect => Err(error),
        Err(error) if error.reaction() == Reaction::Later => Ok(Disposition::RetryLater),
        Err(error) => Ok(Disposition::Dead(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tasker_queue::InProcess;
    use tasker_test_support::Database;

    use super::*;

    /// What becomes of messages, each with its id and body, in one batch.
    async fn take(engine: &Arc<Engine<InProcess>>, messages: &[(&str, &str)]) -> Vec<Disposition> {
        let read =
            |&(first_id, body): &(&str, &str)| QueuedRequest::read(RawMessage { body, first_id, traceparent: None }).unwrap();
        submit(engine, &messages.iter().map(read).collect::<Vec<_>>()).await.unwrap()
    }

    async fn engine(database: &Database, strategy: &str) -> Arc<Engine<InProcess>> {
        let engine = tasker_test_support::engine(&database.url, InProcess::default());
        let steps = json!([{"name": "a", "handler": {"callable": "a"}}]);
        let template = json!({"name": "w", "version": "1.0.0", "identity_strategy": strategy, "steps": steps});
        engine.register_template(&template.to_string()).await.unwrap();
        engine
    }

    async fn tasks(database: &Database) -> i64 {
        database.client().await.query_one("select count(*) from tasker.tasks", &[]).await.unwrap().get(0)
    }

    #[tokio::test]
    async fn the_same_order_in_two_messages_is_one_task_under_strict() {
        let database = tasker_test_support::database().await;
        let engine = engine(&database, "strict").await;
        let order = r#"{"name": "w", "context": {"order": 1}}"#;
        let respelled = r#"{"context": {"order": 1.0}, "name": "w"}"#;
        assert_eq!(take(&engine, &[("m1", order), ("m2", order)]).await, [Disposition::Done, Disposition::Done]);
        assert_eq!(take(&engine, &[("m3", respelled)]).await, [Disposition::Done]);
        assert_eq!(tasks(&database).await, 1);
        let http = engine.submit(parse_task_request(order.as_bytes()).unwrap(), None).await;
        assert!(matches!(http, Err(SubmitError::Duplicate { .. })), "over HTTP after the queue: {http:?}");
    }

    #[tokio::test]
    async fn a_message_is_one_task_under_always_unique_however_often_it_is_delivered() {
        let database = tasker_test_support::database().await;
        let engine = engine(&database, "always_unique").await;
        let order = r#"{"name": "w", "context": {"order": 1}}"#;
        for _ in 0..2 {
            assert_eq!(take(&engine, &[("m1", order), ("m2", order)]).await, [Disposition::Done, Disposition::Done]);
        }
        assert_eq!(tasks(&database).await, 2, "one for each message");
        let keyed = r#"{"name": "w", "idempotency_key": "m1"}"#;
        take(&engine, &[("m3", keyed), ("m4", keyed)]).await;
        assert_eq!(tasks(&database).await, 3, "a key is no message's id, and wins over it");
    }

    #[tokio::test]
    async fn a_message_without_the_key_that_its_template_requires_is_a_dead_letter() {
        let database = tasker_test_support::database().await;
        let engine = engine(&database, "caller_provided").await;
        let taken = take(&engine, &[("m1", r#"{"name": "w"}"#), ("m2", r#"{"name": "w", "idempotency_key": "k"}"#)]).await;
        assert!(matches!(&taken[0], Disposition::Dead(reason) if reason.contains("/idempotency_key")), "{taken:?}");
        assert_eq!(taken[1], Disposition::Done);
        assert_eq!(take(&engine, &[("m3", r#"{"name": "w", "idempotency_key": "k"}"#)]).await, [Disposition::Done]);
        assert_eq!(tasks(&database).await, 1);
    }
}
