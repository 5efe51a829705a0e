//! `step-readiness`: what time makes ready, told by a delayed message or found by the schedule.

use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};
use tasker_aws::{Received, Unreadable, parse};
use tasker_engine::Swept;
use tasker_wire::{Evaluate, StepId};

use crate::{
    Instance,
    events::Event,
    messages::{Content, Fate, Letter, messages},
    serve::{Failed, Invocation},
};

/// No sweep is begun with less time left than this; the next minute goes on.
const ENOUGH: Duration = Duration::from_secs(10);

impl Content for Evaluate {
    const KIND: &'static str = "Evaluate";

    fn read(received: &Received) -> Result<Self, Unreadable> {
        parse(&received.body)
    }

    fn step(&self) -> Option<(StepId, i32)> {
        Some((self.step_id, self.lease))
    }
}

/// Dispatches the retries of a batch that are due, or sweeps.
pub async fn readiness(instance: Instance, invocation: Invocation) -> Result<Box<RawValue>, Failed> {
    let time_left = invocation.time_left();
    match invocation.event {
        Event::Messages(batch) => {
            messages(&instance, batch, time_left, |engine, letters: Vec<Letter<Evaluate>>| async move {
                let count = letters.len();
                engine.evaluate(letters.into_iter().map(|letter| letter.content).collect()).await?;
                Ok(vec![Fate::Done; count])
            })
            .await
        }
        Event::Schedule => sweep(&instance, &invocation).await,
        other => Err(Failed(other.refuse(&invocation.function, "the messages of the queue of readiness, and its schedule"))),
    }
}

/// Sweeps until nothing is left, or the time is over.
async fn sweep(instance: &Instance, invocation: &Invocation) -> Result<Box<RawValue>, Failed> {
    let engine = instance.engine().await.map_err(|e| Failed(e.to_string()))?;
    let mut total = Swept::default();
    loop {
        let swept = engine.sweep().await.map_err(|e| Failed(e.to_string()))?;
        total = Swept { sent: total.sent + swept.sent, overdue: total.overdue + swept.overdue };
        if swept == Swept::default() || invocation.time_left() < ENOUGH {
            break;
        }
    }
    engine.store().close_dlq_entries().await.map_err(|e| Failed(e.to_string()))?;
    if total != Swept::default() {
        tracing::info!(sent = total.sent, overdue = total.overdue, "swept");
    }
    to_raw_value(&serde_json::json!({"sent": total.sent, "overdue": total.overdue})).map_err(|e| Failed(e.to_string()))
}
