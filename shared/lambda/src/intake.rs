//! `task-intake`: submits tasks, from HTTP requests and from the intake queue.

use std::sync::Arc;

use futures::future::join_all;
use tasker_api::{ApiSettings, intake_router};
use tasker_domain::request::{TaskRequest, parse_task_request};
use tasker_engine::{React, Reaction, SubmitError};
use tasker_queue::{Content, Disposition, RawMessage, Unreadable};
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
        if request.idempotency_key.is_none() {
            request.idempotency_key = Some(message.first_id.to_owned());
        }
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
                // Concurrently, so the engine inserts them together.
                let submits = requests.iter().map(async |QueuedRequest { request, traceparent }| {
                    disposition(engine.submit(TaskRequest::clone(request), traceparent.clone()).await)
                });
                join_all(submits).await.into_iter().collect()
            })
            .await
        }
    }
}

fn disposition<T>(submitted: Result<T, SubmitError>) -> Result<Disposition, StoreError> {
    match submitted {
        Ok(_) | Err(SubmitError::Duplicate { .. }) => Ok(Disposition::Done),
        Err(SubmitError::Store(error)) if error.reaction() == Reaction::OurDefect => Err(error),
        Err(error) if error.reaction() == Reaction::Later => Ok(Disposition::RetryLater),
        Err(error) => Ok(Disposition::Dead(error.to_string())),
    }
}
