//! The verbs of the orchestrator: submit, complete, evaluate, sweep, recover, the operator actions, and pauses.
//!
//! Each verb loads what it needs, decides by pure code of `tasker-domain`, records everything in one statement, and only then sends.
//! The engine keeps no workflow state between calls: its caches hold immutable data, and messages are only wake-ups.

mod clock;
mod complete;
mod dispatch;
mod doctor;
mod entries;
mod expand;
mod explain;
mod locked;
mod net;
mod operator;
mod pauses;
mod pools;
mod reaction;
mod recover;
mod register;
mod slow;
mod stale;
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
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::ExponentialBuilder;
use parking_lot::Mutex;
use tasker_domain::token::SigningKey;
use tasker_queue::{InProcess, Queue};
use tasker_store::{DispatchSettings, Store};
use tasker_wire::{limits, message::Lease};

pub use complete::disposition;
pub use entries::{RecoverError, RecoveredPage, Recovery};
pub use operator::{By, Effects, OperatorAction, OperatorError, Precondition};
pub use pauses::PauseChange;
pub use pools::{Unserved, WaitingPool};
pub use reaction::{React, Reaction};
pub use register::{RegisterError, Registered};
pub use stale::{StaleLook, lifecycle_of};
pub use submit::{SubmitError, Submitted};
pub use sweep::Swept;
pub use wait::Waiter;

use clock::ClockWatch;
use locked::LockedTasks;
use net::Net;
use slow::SlowVerdicts;
use submit::Submits;
use templates::TemplateCache;
use wait::Waiters;

#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Selects the overlay of templates at submit: 1 to 64 characters of `[A-Za-z0-9_-]`.
    pub environment: String,
    /// The first key signs; all keys verify.
    pub signing_keys: Vec<SigningKey>,
    /// Pools that have workers. Decides about steps that name no pool, and what is said of steps whose pool is not among them.
    pub pools: HashSet<String>,
    /// Changed content under the same version becomes a new revision, and is not rejected.
    pub revise_templates: bool,
    /// The seed of the jitter of backoffs.
    pub seed: u64,
    /// How long sending a message may take before a sweep sends it again. `None`: the queue is inside this process, and only recovery
    /// sends again.
    pub send_lease: Option<Duration>,
    /// The queue inside this process, if that is used. While it is full new tasks are rejected. It drops the messages of a cancelled task.
    pub in_process: Option<InProcess>,
}

/// The orchestrator over a database and a queue. A process has one.
pub struct Engine<Q> {
    store: Store,
    queue: Q,
    settings: EngineSettings,
    templates: TemplateCache,
    waiters: Arc<Waiters>,
    locked: LockedTasks,
    slow: SlowVerdicts,
    clock: ClockWatch,
    submits: Arc<Submits>,
    net: Net,
    /// Tasks whose rows were wrong and were repaired.
    repaired: AtomicU64,
    /// Whether an answer of the database was lost, with the dispatches in it.
    lost_track: AtomicBool,
    /// Dispatches that the last process had started, of steps that another session has locked. They are returned once it ends.
    unreturned: Mutex<Vec<Lease>>,
}

impl<Q: Queue> Engine<Q> {
    pub fn new(store: Store, queue: Q, settings: EngineSettings) -> Arc<Self> {
        Arc::new(Self {
            store,
            queue,
            settings,
            templates: TemplateCache::default(),
            waiters: Arc::default(),
            locked: LockedTasks::default(),
            slow: SlowVerdicts::default(),
            clock: ClockWatch::default(),
            submits: submit::together(),
            net: Net::default(),
            repaired: AtomicU64::new(0),
            lost_track: AtomicBool::new(false),
            unreturned: Mutex::default(),
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

    /// Makes the next sweep recover, because a dispatch may have been lost.
    pub fn recover_soon(&self) {
        self.lost_track.store(true, Ordering::SeqCst);
    }

    /// Whether the next sweep recovers.
    fn has_lost_track(&self) -> bool {
        self.lost_track.load(Ordering::SeqCst)
    }

    /// Runs a verb to its end even if its caller is dropped: a future dropped between commit and send would lose its dispatches.
    /// A verb that fails may have lost dispatches too, unless the failure is the caller's fault.
    async fn to_its_end<T, E, F>(self: &Arc<Self>, verb: impl FnOnce(Arc<Self>) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: React + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (engine, verb, mark) = (self.clone(), verb(self.clone()), self.net.verb());
        let verb = tokio::spawn(async move {
            let ended = verb.await;
            if ended.as_ref().is_err_and(|e| e.reaction() != Reaction::CallersFault) {
                engine.recover_soon();
            }
            drop(mark);
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

    /// A number in 0..1 for a lease, determined by the seed.
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

/// The number of whole messages that one statement returns. The rest of a wider fan-out is loaded in pages of this size.
const BODIES: usize = 200;

/// The pauses between tries of a call that the infrastructure prevents: each is twice the last one, up to two seconds, without an end.
pub const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(50))
    .with_max_delay(Duration::from_secs(2))
    .without_max_times();
