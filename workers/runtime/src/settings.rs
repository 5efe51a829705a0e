//! The settings of the worker loop.

use std::time::Duration;

#[cfg(doc)]
use tasker_wire::limits;

/// Start from [`WorkerSettings::new`] and change the fields that matter.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The pool that the worker serves; shown in logs.
    pub pool: String,
    /// The worker's name; shown to operators with each outcome.
    pub worker: String,
    /// Concurrent steps; no more are received. After a crash, a few more may run and up to as many again may be held until its steps are
    /// answered; see `workers/README.md`.
    pub max_concurrent_handlers: usize,
    /// How long a child may take until it is ready. One that visibly works is waited for longer, up to [`limits::READY_TIMES`] times.
    pub ready_timeout: Duration,
    /// The pause before the restart of a child that died without a step. It doubles up to `longest_restart_pause`.
    pub restart_pause: Duration,
    pub longest_restart_pause: Duration,
    /// How long running handlers may continue after a shutdown starts.
    pub drain_timeout: Duration,
    /// How often the worker looks whether it lost a step, and how often it asks a child whether it still has one. Not zero.
    pub look_for_lost: Duration,
    /// The source's visibility timeout: when it delivers a message again unless it is extended. `None` if it never does.
    pub visibility: Option<Duration>,
    /// Whether to log each answered step.
    pub log_answers: bool,
}

impl WorkerSettings {
    /// The defaults for a pool.
    pub fn new(pool: impl Into<String>) -> Self {
        let pool = pool.into();
        Self {
            worker: format!("{pool}/{}", std::process::id()),
            pool,
            max_concurrent_handlers: 10,
            ready_timeout: Duration::from_secs(30),
            restart_pause: Duration::from_millis(200),
            longest_restart_pause: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            look_for_lost: Duration::from_secs(60),
            visibility: None,
            log_answers: false,
        }
    }
}
