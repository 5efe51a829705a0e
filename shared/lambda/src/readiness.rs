//! `step-readiness`: dispatches steps that time makes due. Delayed messages announce them; a scheduled sweep finds those without one.

use std::{sync::Arc, time::Duration};

use serde_json::{json, value::to_raw_value};
use tasker_engine::Swept;
use tasker_queue::Disposition;
use tasker_wire::Evaluate;

use crate::{
    Instance,
    events::ReadinessEvent,
    messages::messages,
    serve::{Deadline, Invocation, InvocationResult},
};

/// With less time left no sweep begins; the next schedule continues.
const ENOUGH: Duration = Duration::from_secs(10);

pub async fn readiness(instance: Instance, invocation: Invocation<ReadinessEvent>) -> InvocationResult {
    let Invocation { event, deadline } = invocation;
    let ReadinessEvent::Messages(records) = event else { return sweep(&instance, deadline).await };
    messages(&instance, records, deadline.time_left(), |engine, wake_ups: Arc<[Evaluate]>| async move {
        engine.evaluate(wake_ups.to_vec()).await?;
        Ok(vec![Disposition::Done; wake_ups.len()])
    })
    .await
}

/// Sweeps until nothing is due or the time is over.
async fn sweep(instance: &Instance, deadline: Deadline) -> InvocationResult {
    let engine = instance.engine().await?;
    engine.watch_clock().await?;
    let Swept { mut sent, mut overdue } = Swept::default();
    loop {
        let swept = engine.sweep().await?;
        sent += swept.sent;
        overdue += swept.overdue;
        if swept == Swept::default() || deadline.time_left() < ENOUGH {
            break;
        }
    }
    engine.look_for_stale(|| deadline.time_left() < ENOUGH).await?;
    if sent + overdue > 0 {
        tracing::info!(sent, overdue, "swept");
    }
    Ok(to_raw_value(&json!({"sent": sent, "overdue": overdue}))?)
}
