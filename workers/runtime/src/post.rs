//! What a message of the pool's queue is, before anything is done about it.

use tasker_aws::{Received, Unreadable, parse};
use tasker_wire::RunStep;

/// What a message is.
pub enum Sorted {
    /// A step to run.
    Step(Box<RunStep>),
    /// It can never be handled, and why.
    Dead(String),
    /// Another version of this program may handle it.
    Again,
}

/// Reads a message.
pub fn sort(received: &Received) -> Sorted {
    match parse::<RunStep>(&received.body) {
        Ok(step) => Sorted::Step(Box::new(step)),
        Err(Unreadable::Malformed(reason)) => Sorted::Dead(reason),
        Err(other @ Unreadable::OtherVersion(_)) => {
            tracing::warn!(message_id = received.id, reason = %other, "a message of another version; it comes again");
            Sorted::Again
        }
    }
}
