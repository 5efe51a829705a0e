//! The settings of the worker loop.

use std::time::Duration;

/// Made by [`Settings::new`]; change the fields that matter.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The pool it serves; shown in log lines.
    pub pool: String,
    /// Its name; shown to operators with each outcome.
    pub worker: String,
    /// Steps that run at once. No more than these are received. Until the steps of a crash are answered, one more runs, and up to as
    /// many again are held; see `workers/README.md`.
    pub max_concurrent_handlers: usize,
    /// How long a child may take to say that it is ready.
    pub ready_timeout: Duration,
    /// The pause before a child that died without having had a step is started again; it doubles up to `longest_restart_pause`.
    pub restart_pause: Duration,
    pub longest_restart_pause: Duration,
    /// How long running handlers may go on after a shutdown begins.
    pub drain_timeout: Duration,
    /// How long the source keeps a delivery from being delivered again, unless it is extended. `None`: for ever.
    pub visibility: Option<Duration>,
    /// Whether each answered step is a log line.
    pub log_answers: bool,
}

impl Settings {
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
            visibility: None,
            log_answers: false,
        }
    }
}
