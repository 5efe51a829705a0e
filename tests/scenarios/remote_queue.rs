//! A test double for a queue outside of the process: it keeps the messages it is sent, and refuses those that a test selects.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tasker_queue::{Outgoing, Queue, SendError, SendResult};
use tasker_wire::{Evaluate, RunStep};

pub struct RemoteQueue {
    sent: Mutex<Vec<Outgoing>>,
    refuses: Mutex<Refuses>,
    too_large: Mutex<Refuses>,
    /// Sends that were begun, and the lock by which a test holds them up.
    pub begun: AtomicUsize,
    pub gate: tokio::sync::RwLock<()>,
}

type Refuses = Box<dyn FnMut(&Outgoing) -> bool + Send>;

impl Default for RemoteQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl RemoteQueue {
    pub fn new() -> Self {
        let none = || Mutex::new(Box::new(|_: &Outgoing| false) as Refuses);
        let (refuses, too_large) = (none(), none());
        Self { sent: Mutex::default(), refuses, too_large, begun: AtomicUsize::new(0), gate: tokio::sync::RwLock::default() }
    }

    /// From now on refuses the messages that `which` selects.
    pub fn refuse(&self, which: impl FnMut(&Outgoing) -> bool + Send + 'static) {
        *self.refuses.lock() = Box::new(which);
    }

    /// From now on finds the messages too large that `which` selects.
    pub fn find_too_large(&self, which: impl FnMut(&Outgoing) -> bool + Send + 'static) {
        *self.too_large.lock() = Box::new(which);
    }

    /// The steps that were sent since the last look, in the order of their names.
    pub fn runs(&self) -> Vec<RunStep> {
        let mut runs = self.take(|sent| match sent {
            Outgoing::RunStep { step, .. } => Some(RunStep::clone(step)),
            _ => None,
        });
        runs.sort_by(|a, b| a.step_name.cmp(&b.step_name));
        runs
    }

    /// The wake-ups that were sent since the last look, with their delays.
    pub fn wake_ups(&self) -> Vec<(Evaluate, Duration)> {
        self.take(|sent| match sent {
            Outgoing::Evaluate { wake_up, delay } => Some((*wake_up, *delay)),
            _ => None,
        })
    }

    fn take<T>(&self, which: impl Fn(&Outgoing) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.sent.lock().retain(|sent| which(sent).map(|t| taken.push(t)).is_none());
        taken
    }
}

impl Queue for RemoteQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        self.begun.fetch_add(1, Relaxed);
        let _open = self.gate.read().await;
        let mut refuses = self.refuses.lock();
        let mut too_large = self.too_large.lock();
        let mut sent = self.sent.lock();
        let send = |message: Outgoing| {
            if too_large(&message) {
                return Err(SendError::TooLarge { bytes: 1_050_000, most: 1_048_576 });
            }
            if refuses(&message) {
                return Err(SendError::Refused("full".into()));
            }
            sent.push(message);
            Ok(())
        };
        messages.into_iter().map(send).collect()
    }
}
