//! The seam to the outside: a queue has a side that sends ([`Queue`]) and a side that receives ([`Source`]).
//!
//! Queues carry messages at least once, in any order, or not at all: no correctness rests on them. Every implementation passes
//! the same tests (`conformance`). Nothing here knows a database or a cloud.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod consume;
mod in_process;

use std::{sync::Arc, time::Duration};

use tasker_wire::{CompleteStep, Evaluate, RunStep};

pub use consume::{Consumer, Limits, WorkError, consume, refuse};
pub use in_process::{Bodies, Completions, InProcess, MAX_RECEIVES, Steps, WakeUps};

/// A message to send. The kind of message says which queue it goes to.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// To the workers of a pool.
    RunStep { pool: String, step: Box<RunStep> },
    /// To the orchestrator: what a worker says of a step. Shared, because who sends it may have to send it again.
    CompleteStep(Arc<CompleteStep>),
    /// To the orchestrator: a retry is due.
    Evaluate {
        wake_up: Evaluate,
        /// How long the queue keeps it back. A queue that cannot keep it so long delivers it early, or leaves it to the sweep.
        delay: Duration,
    },
}

/// The queue's answer to one message: accepted, or why not.
pub type SendResult = Result<(), SendError>;

/// The queue did not accept a message.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// Not now. It may have arrived all the same: send it again.
    #[error("the queue did not accept the message: {0}")]
    Refused(String),
    /// Never: it is larger than the queue carries.
    #[error("a message of {bytes} bytes is too large; the queue carries at most {most}")]
    TooLarge { bytes: usize, most: usize },
}

/// The side that sends.
pub trait Queue: Send + Sync + 'static {
    /// Sends messages; one answer for each, in their order.
    fn send(&self, messages: Vec<Outgoing>) -> impl Future<Output = Vec<SendResult>> + Send;
}

/// The side that receives: the messages of one queue.
pub trait Source: Send + Sync + 'static {
    type Message: Send + 'static;

    /// Waits for messages and takes at most `max`. An empty answer means that there will be no more.
    ///
    /// Cancel-safe: when the future is dropped before it is ready, no message is lost (it may be delivered later than it would have been).
    fn receive(&self, max: usize) -> impl Future<Output = Vec<Delivery<Self::Message>>> + Send;

    /// Says what becomes of deliveries. What does not reach the queue is delivered again.
    fn settle(&self, settled: Vec<(Receipt, Disposition)>) -> impl Future<Output = ()> + Send;

    /// Keeps deliveries from being delivered again for `time` from now. With [`Duration::ZERO`] they may be delivered again at once.
    fn extend(&self, deliveries: &[Receipt], time: Duration) -> impl Future<Output = ()> + Send;
}

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Delivery<M> {
    /// The message, or why it cannot be read.
    pub message: Result<M, Unreadable>,
    pub receipt: Receipt,
}

/// Names one delivery to its source. What it holds beside the id is the source's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The message's id; the same over all its deliveries.
    pub id: String,
    /// This delivery's handle.
    pub handle: String,
    /// How often the message was received, this time included.
    pub receives: u32,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// The message is dealt with and leaves the queue.
    Done,
    /// It is delivered again, later with each time.
    RetryLater,
    /// It can never be dealt with, and why: it goes to the dead letters.
    Dead(String),
}

/// Why a message was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another version of this program may read it, for example while functions are replaced one by one.
    #[error("it has version {0}; this version reads {known}", known = tasker_wire::message::VERSION)]
    OtherVersion(u64),
    /// It can never be read.
    #[error("{0}")]
    Malformed(String),
}
