//! The verbs of the orchestrator: submit, complete, evaluate, sweep, recover, and the operator's cancel, retry and resolve.
//!
//! Each verb loads what it needs, decides by pure code of the domain, records everything in one statement, and only then sends.
//! It keeps no state of a workflow between calls: caches hold immutable things, and the queue is a wake-up.

mod complete;
mod dispatch;
mod embedded;
mod operator;
mod reaction;
mod register;
mod submit;
mod sweep;
mod templates;
mod wait;
mod work;

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

pub use operator::{By, OperatorError};
pub use reaction::{React, Reaction};
pub use register::{RegisterError, Registered};
pub use submit::{SubmitError, Submitted};
pub use sweep::Swept;
pub use wait::Waiter;

use submit::Submits;
use templates::TemplateCache;
use wait::Waiters;

#[derive(Debug, Clone)]
pub struct EngineSettings {
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
    settings: EngineSettings,
    templates: TemplateCache,
    waiters: Arc<Waiters>,
    submits: Arc<Submits>,
    /// An answer of the database was lost: what it dispatched may be known to nobody.
    lost_track: AtomicBool,
}

impl<Q: Queue> Engine<Q> {
    /// An engine; it does nothing until a verb is called.
    pub fn new(store: Store, queue: Q, settings: EngineSettings) -> Arc<Self> {
        Arc::new(Self {
            store,
            queue,
            settings,
            templates: TemplateCache::default(),
            waiters: Arc::default(),
            submits: submit::together(),
            lost_track: AtomicBool::new(false),
        })
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn queue(&self) -> &Q {
        &self.queue
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.settings
    }

    fn dispatch_settings(&self) -> DispatchSettings {
        DispatchSettings {
            send_ms: self.settings.send_lease.map(|d| d.as_millis() as i64),
            bodies: BODIES as i32,
            input_bytes: limits::INPUT_BYTES as i64,
        }
    }

    /// Lets the next sweep of this process recover: something may have lost track of what was dispatched.
    pub fn recover_soon(&self) {
        self.lost_track.store(true, Ordering::SeqCst);
    }

    /// Runs a verb to its end even when its caller goes away: between commit and send, a dropped future would strand what was
    /// dispatched. So may a verb that fails by anything but its caller's fault.
    async fn to_its_end<T, E, F>(self: &Arc<Self>, verb: impl FnOnce(Arc<Self>) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: React + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (engine, verb) = (self.clone(), verb(self.clone()));
        let verb = tokio::spawn(async move {
            let ended = verb.await;
            if ended.as_ref().is_err_and(|e| e.reaction() != Reaction::CallersFault) {
                engine.recover_soon();
            }
            ended
        });
        match verb.await {
            Ok(ended) => ended,
            Err(e) if e.is_panic() => {
                self.recover_soon();
                std::panic::resume_unwind(e.into_panic())
            }
            Err(_) => std::future::pending().await,
        }
    }

    /// A number in 0..1 for a lease, always the same for the same seed.
    fn jitter(&self, lease: Lease) -> f64 {
        let id = lease.step.task.uuid().as_u128();
        let mut x = self.settings.seed ^ (id as u64) ^ ((id >> 64) as u64) ^ ((lease.step.no as u64) << 32) ^ lease.number as u64;
        // splitmix64's finalizer
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Messages that one call answers whole, or that are loaded at once. Of a wider fan-out the rest is loaded page by page.
const BODIES: usize = 200;

/// Growing pauses between tries of something that the world must mend.
fn pause(tries: u32) -> Duration {
    Duration::from_millis((50u64 << tries.min(6)).min(2000))
}
