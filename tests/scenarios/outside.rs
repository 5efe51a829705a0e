//! A queue that does not live in this process: it drops, doubles and refuses, and the sweep sends again what it owes.

use std::{sync::Mutex, time::Duration};

use tasker_domain::{
    Evaluate, Message, Outgoing, Queue, RunStep,
    queue::{SendError, SendResult},
};

/// Keeps what it is sent, and refuses what it is told to.
pub struct Outside {
    lease: Option<Duration>,
    sent: Mutex<Vec<Outgoing>>,
    refuses: Mutex<Refuses>,
}

type Refuses = Box<dyn FnMut(&Message) -> bool + Send>;

impl Outside {
    pub fn new() -> Self {
        Self { lease: Some(Duration::from_secs(30)), sent: Mutex::default(), refuses: Mutex::new(Box::new(|_| false)) }
    }

    /// From now on refuses what `which` says.
    pub fn refuse(&self, which: impl FnMut(&Message) -> bool + Send + 'static) {
        *self.refuses.lock().unwrap() = Box::new(which);
    }

    /// The steps that were sent since the last look, in the order of their names.
    pub fn runs(&self) -> Vec<RunStep> {
        let mut runs = self.take(|sent| match &sent.message {
            Message::RunStep(run) => Some(RunStep::clone(run)),
            _ => None,
        });
        runs.sort_by(|a, b| a.step_name.cmp(&b.step_name));
        runs
    }

    /// The wake-ups that were sent since the last look, with their delays.
    pub fn wake_ups(&self) -> Vec<(Evaluate, Duration)> {
        self.take(|sent| match sent.message {
            Message::Evaluate(evaluate) => Some((evaluate, sent.delay)),
            _ => None,
        })
    }

    fn take<T>(&self, which: impl Fn(&Outgoing) -> Option<T>) -> Vec<T> {
        let mut taken = Vec::new();
        self.sent.lock().unwrap().retain(|sent| which(sent).map(|t| taken.push(t)).is_none());
        taken
    }
}

impl Queue for Outside {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let mut refuses = self.refuses.lock().unwrap();
        let mut sent = self.sent.lock().unwrap();
        let send = |message: Outgoing| {
            if refuses(&message.message) {
                return Err(SendError("full".into()));
            }
            sent.push(message);
            Ok(())
        };
        messages.into_iter().map(send).collect()
    }

    fn send_lease(&self) -> Option<Duration> {
        self.lease
    }
}
