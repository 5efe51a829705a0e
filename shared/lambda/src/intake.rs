//! `task-intake`: requests for tasks, by HTTP or by the queue of intake.

use futures::future::join_all;
use serde_json::value::RawValue;
use tasker_api::{Settings, intake_router};
use tasker_aws::{Received, Unreadable};
use tasker_domain::request::{TaskRequest, parse_task_request};
use tasker_engine::{React, Reaction, SubmitError};
use tasker_store::StoreError;
use tasker_wire::StepId;

use crate::{
    Instance,
    events::Event,
    http,
    messages::{Content, Fate, Letter, messages},
    serve::{Failed, Invocation},
};

/// A request as it lay in the queue.
#[derive(Clone)]
struct Asked(Box<TaskRequest>);

impl Content for Asked {
    const KIND: &'static str = "task request";

    fn read(received: &Received) -> Result<Self, Unreadable> {
        let mut request = parse_task_request(received.body.as_bytes())
            .map_err(|e| Unreadable::Malformed(format!("it is no request for a task: {e}")))?;
        // The queue delivers a message more than once; its id is the same each time, also after an operator sent it again.
        if request.idempotency_key.is_none() {
            request.idempotency_key = Some(received.first_id().to_owned());
        }
        Ok(Self(Box::new(request)))
    }

    fn step(&self) -> Option<(StepId, i32)> {
        None
    }
}

/// Takes tasks in.
pub async fn intake(instance: Instance, invocation: Invocation) -> Result<Box<RawValue>, Failed> {
    let time_left = invocation.time_left();
    match invocation.event {
        Event::Http(request) => {
            http::answer(&instance, *request, time_left, |engine| intake_router(engine, Settings::default())).await
        }
        Event::Messages(batch) => {
            messages(&instance, batch, time_left, |engine, letters: Vec<Letter<Asked>>| async move {
                // All at once: the engine inserts them together.
                let submits = letters.into_iter().map(|letter| {
                    let (engine, Asked(request)) = (engine.clone(), letter.content);
                    async move { fate(engine.submit(*request, letter.received.traceparent).await) }
                });
                join_all(submits).await.into_iter().collect()
            })
            .await
        }
        other => Err(Failed(other.refuse(&invocation.function, "requests for tasks, by HTTP or by the queue of intake"))),
    }
}

fn fate<T>(submitted: Result<T, SubmitError>) -> Result<Fate, StoreError> {
    match submitted {
        Ok(_) | Err(SubmitError::Duplicate { .. }) => Ok(Fate::Done),
        Err(SubmitError::Store(error)) if error.reaction() == Reaction::OurDefect => Err(error),
        Err(error) if error.reaction() == Reaction::Later => Ok(Fate::Later),
        Err(error) => Ok(Fate::Dead(error.to_string())),
    }
}
