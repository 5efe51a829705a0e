//! The verbs of the orchestrator: submit, complete, evaluate, sweep, recover, and the operator's cancel, retry and resolve.
//!
//! Each verb loads what it needs, decides by pure code of the domain, records everything in one statement, and only then sends.
//! It keeps no state of a workflow between calls: caches hold immutable things, and the queue is a wake-up.

mod complete;
mod dispatch;
mod embedded;
mod operator;
mod register;
mod submit;
mod sweep;
mod templates;
mod wait;

use std::{
    collections::HashSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tasker_domain::token::SigningKey;
use tasker_queue::{InProcess, Queue};
use tasker_store::{DispatchSettings, Store};
use tasker_wire::{limits, message::Lease};

pub use complete::Answer;
pub use operator::{By, OperatorError};
pub use register::{RegisterError, Registered};
pub use submit::{SubmitError, Submitted};
pub use sweep::Swept;
pub use wait::Waiter;

use submit::Submits;
use templates::TemplateCache;
use wait::Waiters;

/// What an engine is told when it is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Chooses the overlay of templates at submit: 1 to 64 of `[A-Za-z0-9_-]`.
    pub environment: String,
    /// The first signs, all verify.
    pub signing_keys: Vec<SigningKey>,
    /// Pools that have workers. Only decides where a step goes that names no pool.
    pub pools: HashSet<String>,
    /// Changed content under the same version becomes a new revision instead of being refused.
    pub revise_templates: bool,
    /// Spreads the back-offs; the same seed gives the same jitter.
    pub seed: u64,
    /// How long a message may be on its way to the queue before a sweep sends it again. `None`: the queue lives and dies with this
    /// process, which sends again only after it lost track.
    pub send_lease: Option<Duration>,
    /// The queue inside this process, where that is the one: when it is full no task is taken, and it forgets a cancelled one.
    pub in_process: Option<InProcess>,
}

/// The orchestrator over a database and a queue. Shared by everything in the process.
pub struct Engine<Q> {
    store: Store,
    queue: Q,
    settings: Settings,
    plans: TemplateCache,
    waiters: Arc<Waiters>,
    submits: Arc<Submits>,
    /// An answer of the database was lost: what it handed over may be known to nobody.
    lost_track: AtomicBool,
}

impl<Q: Queue> Engine<Q> {
    /// An engine; it does nothing until a verb is called.
    pub fn new(store: Store, queue: Q, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            store,
            queue,
            settings,
            plans: TemplateCache::default(),
            waiters: Arc::default(),
            submits: submit::together(),
            lost_track: AtomicBool::new(false),
        })
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The queue.
    pub fn queue(&self) -> &Q {
        &self.queue
    }

    /// What this engine was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn hand_over_settings(&self) -> DispatchSettings {
        DispatchSettings {
            send_ms: self.settings.send_lease.map(|d| d.as_millis() as i64),
            bodies: BODIES as i32,
            input_bytes: limits::INPUT_BYTES as i64,
        }
    }

    /// Remembers that an answer was lost, and passes the result on.
    fn track<T>(&self, result: Result<T, tasker_store::StoreError>) -> Result<T, tasker_store::StoreError> {
        if result.as_ref().is_err_and(tasker_store::StoreError::is_transient) {
            self.lost_track.store(true, Ordering::SeqCst);
        }
        result
    }

    /// A number in 0..1 for a hand-over, always the same for the same seed.
    fn jitter(&self, key: Lease) -> f64 {
        let id = key.step.task.uuid().as_u128();
        let mut x = self.settings.seed ^ (id as u64) ^ ((id >> 64) as u64) ^ ((key.step.no as u64) << 32) ^ key.number as u64;
        // splitmix64's finalizer
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Messages that one call answers whole, or that are loaded at once. Of a wider fan-out the rest is loaded page by page.
const BODIES: usize = 200;

/// Runs a verb to its end even when its caller goes away: between commit and send, a dropped future would strand what was handed over.
async fn to_its_end<T: Send + 'static>(verb: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(verb).await {
        Ok(value) => value,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// Growing pauses between tries of something that the world must mend.
fn pause(tries: u32) -> Duration {
    Duration::from_millis((50u64 << tries.min(6)).min(2000))
}
