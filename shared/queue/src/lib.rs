//! The seam to the outside: a queue that carries messages.

use std::{future::Future, time::Duration};

use tasker_wire::{CompleteStep, Evaluate, RunStep, TaskId};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The workers of a pool.
    Worker(String),
    /// The orchestrator, with what came of a step.
    Completions,
    /// The orchestrator, for what time makes ready.
    Readiness,
}

/// What a queue carries.
#[derive(Debug, Clone)]
pub enum Message {
    /// To [`Destination::Worker`].
    RunStep(Box<RunStep>),
    /// To [`Destination::Completions`].
    CompleteStep(Box<CompleteStep>),
    /// To [`Destination::Readiness`].
    Evaluate(Evaluate),
}

/// A message, where it goes and when.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it goes.
    pub to: Destination,
    /// What it is.
    pub message: Message,
    /// How long the queue keeps it back. A queue that cannot keep it so long delivers it early.
    pub delay: Duration,
}

/// The queue's answer to one message: accepted, or why not.
pub type SendResult = Result<(), SendError>;

/// The queue did not accept a message.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// Not now, and why; it may have arrived all the same. Offer it again.
    #[error("the queue did not accept the message: {0}")]
    Refused(String),
    /// Never: it is larger than the queue carries.
    #[error("a message of {bytes} bytes is too large; the queue carries at most {most}")]
    TooLarge {
        /// Of the message.
        bytes: usize,
        /// That the queue carries.
        most: usize,
    },
}

/// Carries messages, at least once and in any order, or not at all: no correctness rests on it.
pub trait Queue: Send + Sync + 'static {
    /// Hands messages over; one answer for each, in their order.
    fn send(&self, messages: Vec<Outgoing>) -> impl Future<Output = Vec<SendResult>> + Send;

    /// How long a message that was handed over may be on its way to the queue before a sweep sends it again.
    /// `None`: the queue lives and dies with this process, which sends again only after it lost track.
    fn send_lease(&self) -> Option<Duration>;

    /// It holds so much that new tasks would only wait in it: they are refused. A queue that holds any amount is never full.
    fn is_full(&self) -> bool {
        false
    }

    /// This task was cancelled: messages that still wait for a worker may be dropped. A queue that cannot find them lets them come;
    /// their answers are stale.
    fn forget(&self, _task: TaskId) {}
}
