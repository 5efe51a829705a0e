//! The way out of the desk: a queue that takes note of what it accepted.

use std::{sync::Arc, time::Duration};

use tasker_queue::{Outgoing, Queue, SendResult};
use tasker_wire::{CompleteStep, Outcome, message::Lease};

use crate::inbox::Inbox;

/// A queue that tells a desk which outcomes it accepted.
pub struct Noting<Q> {
    pub queue: Q,
    pub desk: Arc<Inbox>,
}

impl<Q: Queue> Queue for Noting<Q> {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let answers: Vec<Option<Answer>> = messages.iter().map(Answer::of).collect();
        let results = self.queue.send(messages).await;
        for (answer, result) in answers.iter().zip(&results) {
            if let (Some(answer), Ok(())) = (answer, result) {
                self.desk.accept(answer.lease, |step| answer.log(step));
            }
        }
        results
    }

    fn send_lease(&self) -> Option<Duration> {
        self.queue.send_lease()
    }
}

/// What is known of an outcome once it is sent.
struct Answer {
    lease: Lease,
    attempt: i32,
    outcome: &'static str,
    duration_ms: u64,
    correlation_id: Option<String>,
    trace_id: Option<String>,
}

impl Answer {
    fn of(outgoing: &Outgoing) -> Option<Self> {
        let Outgoing::CompleteStep(complete) = outgoing else { return None };
        let CompleteStep { attempt, execution_time_ms, correlation_id, traceparent, outcome, .. } = &**complete;
        if matches!(outcome, Outcome::Started {} | Outcome::Heartbeat {}) {
            return None;
        }
        Some(Self {
            lease: complete.lease(),
            attempt: *attempt,
            outcome: outcome.kind(),
            duration_ms: *execution_time_ms,
            correlation_id: correlation_id.map(|id| id.to_string()),
            trace_id: traceparent.as_deref().and_then(tasker_aws::trace_id).map(str::to_owned),
        })
    }

    fn log(&self, step: &str) {
        let Self { lease, attempt, outcome, duration_ms, correlation_id, trace_id } = self;
        let task_id = lease.step.task.to_string();
        tracing::info!(task_id, step, attempt, outcome, correlation_id, trace_id, duration_ms, "step answered");
    }
}
