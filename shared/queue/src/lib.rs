//! The interface of queues: [`Queue`] is the side that sends, [`Source`] the side that receives.
//!
//! A queue may deliver a message more than once, late, in any order, or not at all; no correctness depends on it. Every implementation
//! passes the same tests, the conformance suite in `tests/support`, and is one file that depends on this crate and its own client library:
//! what a message means, and what becomes of one that cannot be read, is here ([`Content`], [`consume()`]).

mod consume;
mod content;
mod in_process;

use std::{sync::Arc, time::Duration};

use tasker_wire::{CompleteStep, Evaluate, RunStep, message::VERSIONS};

pub use consume::{Consumer, Limits, WorkError, consume, refuse};
pub use content::{Content, RawMessage, step_of, unquoted};
pub use in_process::{Bodies, Completions, InProcess, MAX_RECEIVES, Steps, WakeUps};

/// A message to send. The kind of message says which queue it goes to.
#[derive(Debug, Clone)]
pub enum Outgoing {
    /// To the workers of a pool.
    RunStep { pool: String, step: Box<RunStep> },
    /// To the orchestrator: the outcome of a step. Shared, because its sender may have to send it again.
    CompleteStep(Arc<CompleteStep>),
    /// To the orchestrator: a retry is due.
    Evaluate {
        wake_up: Evaluate,
        /// How long the queue delays it. A queue with a lower maximum delivers it early, or drops it and leaves it to the sweep.
        delay: Duration,
    },
}

pub type SendResult = Result<(), SendError>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// Not accepted now, as far as the sender knows. Send it again.
    #[error("the queue did not accept the message: {0}")]
    Refused(String),
    /// Too large for this queue. Sending it again cannot succeed.
    #[error("a message of {bytes} bytes is too large; the queue carries at most {most}")]
    TooLarge { bytes: usize, most: usize },
}

/// The side that sends.
pub trait Queue: Send + Sync + 'static {
    /// Sends messages. Returns one answer per message, in their order.
    fn send(&self, messages: Vec<Outgoing>) -> impl Future<Output = Vec<SendResult>> + Send;
}

/// The side that receives: the messages of one queue.
pub trait Source: Send + Sync + 'static {
    type Message: Send + 'static;

    /// Waits for messages and receives at most `max`. Returns nothing only if there will be no more.
    ///
    /// Cancel-safe: dropping the future loses no message, but may delay it.
    fn receive(&self, max: usize) -> impl Future<Output = Vec<Delivery<Self::Message>>> + Send;

    /// Settles deliveries. If that does not reach the queue, they are delivered again.
    fn settle(&self, settled: Vec<(Receipt, Disposition)>) -> impl Future<Output = ()> + Send;

    /// Prevents another delivery for `time` from now. [`Duration::ZERO`] allows it immediately.
    fn extend(&self, deliveries: &[Receipt], time: Duration) -> impl Future<Output = ()> + Send;

    /// The receiver has lost these deliveries, by a defect of its own. They are delivered again.
    fn lost(&self, deliveries: &[Receipt]) -> impl Future<Output = ()> + Send {
        self.extend(deliveries, Duration::ZERO)
    }

    /// Waits for deliveries whose outcomes are no longer needed, because their steps were cancelled, resolved or dispatched again. Each
    /// is told once, and must still be settled; those that were settled meanwhile may be among them. Never returns for a source that
    /// cannot know.
    ///
    /// Cancel-safe.
    fn unwanted(&self) -> impl Future<Output = Vec<Receipt>> + Send {
        std::future::pending()
    }
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Delivery<M> {
    /// The message, or why it cannot be read.
    pub message: Result<M, Unreadable>,
    pub receipt: Receipt,
}

/// Identifies a delivery to its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The id of the message, the same in all its deliveries.
    pub id: String,
    /// Identifies this delivery; only its source reads it.
    pub handle: String,
    /// How often the message was received, including this time.
    pub receives: u32,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// The message leaves the queue.
    Done,
    /// It is delivered again after a pause that grows with its receives.
    RetryLater,
    /// Nothing is wrong with the message, but it cannot be worked on now. It is delivered again after a pause. Where the queue itself does
    /// not count receives, this one does not count.
    Postponed,
    /// It becomes a dead letter, with this reason.
    Dead(String),
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Another version of this program may read it, for example during a deployment.
    #[error("it has version {0}; this version reads {first} to {last}", first = VERSIONS.start(), last = VERSIONS.end())]
    OtherVersion(u64),
    #[error("{0}")]
    Malformed(String),
}
