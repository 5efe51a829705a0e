//! Tests of the whole system; see the folders beside this file.

use std::{any::Any, sync::Arc, time::Duration};

use tasker_engine::{Engine, EngineSettings};
use tasker_queue::{InProcess, Queue, Source};
use tasker_wire::{RunStep, limits};

/// An HTTP client, to be built. Reqwest asks for a TLS provider even where all it sends goes to `http://`.
pub fn http_client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

/// At least one step of a pool, at most `max`.
pub async fn receive(engine: &Arc<Engine<InProcess>>, pool: &str, max: usize) -> Vec<RunStep> {
    let deliveries = engine.steps(pool).receive(max).await;
    deliveries.into_iter().map(|delivery| delivery.message.expect("what is inside the process can be read")).collect()
}

/// The settings of an engine over this queue.
pub fn settings_over<Q: Queue>(queue: &Q, settings: EngineSettings) -> EngineSettings {
    let in_process = (queue as &dyn Any).downcast_ref::<InProcess>().cloned();
    let send_lease = in_process.is_none().then_some(Duration::from_millis(limits::SEND_LEASE_MS as u64));
    EngineSettings { send_lease, in_process, ..settings }
}
