//! An engine as tests run it: one pool, `default`, and one signing key.

use std::{any::Any, collections::HashSet, sync::Arc, time::Duration};

use tasker_domain::token::SigningKey;
use tasker_engine::{Engine, EngineSettings};
use tasker_queue::{InProcess, Queue, Source};
use tasker_store::Store;
use tasker_wire::{RunStep, limits};

/// An engine over a database and a queue. It does nothing by itself.
pub fn engine<Q: Queue>(url: &str, queue: Q) -> Arc<Engine<Q>> {
    engine_of(url, queue, 4, 1)
}

/// The same, with a number of connections to the database and a seed for the jitter.
pub fn engine_of<Q: Queue>(url: &str, queue: Q, connections: usize, seed: u64) -> Arc<Engine<Q>> {
    let in_process = (&queue as &dyn Any).downcast_ref::<InProcess>().cloned();
    let settings = EngineSettings {
        environment: "test".into(),
        signing_keys: vec![SigningKey { id: "test".into(), secret: vec![7; 32] }],
        pools: HashSet::from(["default".to_owned()]),
        revise_templates: false,
        seed,
        send_lease: in_process.is_none().then_some(Duration::from_millis(limits::SEND_LEASE_MS as u64)),
        in_process,
    };
    Engine::new(Store::new(url, connections).unwrap_or_else(|e| panic!("{e}")), queue, settings)
}

/// At least one step of the pool `default`, at most `max`.
pub async fn receive(engine: &Arc<Engine<InProcess>>, max: usize) -> Vec<RunStep> {
    let deliveries = engine.steps("default").receive(max).await;
    deliveries.into_iter().map(|delivery| delivery.message.expect("a message inside the process is readable")).collect()
}
