//! `task-intake`: requests for tasks, by HTTP or by the queue of intake.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::value::RawValue;
use tasker_api::{ApiSettings, intake_router};
use tasker_aws::{Content, SqsMessage};
use tasker_domain::request::{TaskRequest, parse_task_request};
use tasker_engine::{React, Reaction, SubmitError};
use tasker_queue::{Disposition, Unreadable};
use tasker_store::StoreError;
use tasker_wire::Lease;

use crate::{
    Instance,
    events::IntakeEvent,
    http,
    messages::messages,
    serve::{Failed, Invocation},
};

/// A request as it lay in the queue.
#[derive(Debug, Clone)]
struct QueuedRequest {
    request: Box<TaskRequest>,
    traceparent: Option<String>,
}

impl Content for QueuedRequest {
    const KIND: &'static str = "task request";

    fn read(message: &SqsMessage) -> Result<Self, Unreadable> {
        let mut request = parse_task_request(message.body.as_bytes())
            .map_err(|e| Unreadable::Malformed(format!("it is no request for a task: {e}")))?;
        // The queue delivers a message more than once; its id is the same each time, also after an operator sent it again.
        if request.idempotency_key.is_none() {
            request.idempotency_key = Some(message.first_id().to_owned());
        }
        Ok(Self { request: Box::new(request), traceparent: message.traceparent() })
    }

    fn lease(&self) -> Option<Lease> {
        None
    }
}

/// Takes tasks in.
pub async fn intake(instance: Instance, invocation: Invocation<IntakeEvent>) -> Result<Box<RawValue>, Failed> {
    let time_left = invocation.deadline.time_left();
    match invocation.event {
        IntakeEvent::Http(request) => {
            http::answer(&instance, *request, time_left, |engine| intake_router(engine, ApiSettings::default())).await
        }
        IntakeEvent::Messages(records) => {
            messages(&instance, records, time_left, |engine, requests: Arc<[QueuedRequest]>| async move {
                // All at once: the engine inserts them together.
                let submits = requests.iter().map(|QueuedRequest { request, traceparent }| {
                    let engine = &engine;
                    async move { disposition(engine.submit(TaskRequest::clone(request), traceparent.clone()).await) }
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
