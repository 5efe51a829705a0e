//! `step-readiness`: what time makes ready, told by a delayed message or found by the schedule.

use std::{sync::Arc, time::Duration};

use serde_json::value::{RawValue, to_raw_value};
use tasker_engine::Swept;
use tasker_queue::Disposition;
use tasker_wire::Evaluate;

use crate::{
    Instance,
    events::ReadinessEvent,
    messages::messages,
    serve::{Deadline, Failed, Invocation},
};

/// No sweep is begun with less time left than this; the next minute goes on.
const ENOUGH: Duration = Duration::from_secs(10);

/// Dispatches the retries of a batch that are due, or sweeps.
pub async fn readiness(instance: Instance, invocation: Invocation<ReadinessEvent>) -> Result<Box<RawValue>, Failed> {
    let Invocation { event, deadline } = invocation;
    match event {
        ReadinessEvent::Messages(records) => {
            messages(&instance, records, deadline.time_left(), |engine, wake_ups: Arc<[Evaluate]>| async move {
                engine.evaluate(wake_ups.to_vec()).await?;
                Ok(vec![Disposition::Done; wake_ups.len()])
            })
            .await
        }
        ReadinessEvent::Schedule => sweep(&instance, deadline).await,
    }
}

/// Sweeps until nothing is left, or the time is over.
async fn sweep(instance: &Instance, deadline: Deadline) -> Result<Box<RawValue>, Failed> {
    let engine = instance.engine().await.map_err(|e| Failed(e.to_string()))?;
    let mut total = Swept::default();
    loop {
        let swept = engine.sweep().await.map_err(|e| Failed(e.to_string()))?;
        total = Swept { sent: total.sent + swept.sent, overdue: total.overdue + swept.overdue };
        if swept == Swept::default() || deadline.time_left() < ENOUGH {
            break;
        }
    }
    engine.store().close_dlq_entries().await.map_err(|e| Failed(e.to_string()))?;
    if total != Swept::default() {
        tracing::info!(sent = total.sent, overdue = total.overdue, "swept");
    }
    to_raw_value(&serde_json::json!({"sent": total.sent, "overdue": total.overdue})).map_err(|e| Failed(e.to_string()))
}
