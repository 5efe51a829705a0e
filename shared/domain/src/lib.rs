//! What a workflow means: templates, graphs, states, outcomes and what is decided from them, limits and messages.
//!
//! Everything here is a function of its arguments. This crate does no I/O, reads no clock and makes no ids.

pub mod action;
pub mod backoff;
pub mod fault;
pub mod graph;
pub mod ids;
pub mod json;
pub mod limits;
pub mod message;
mod object;
pub mod outcome;
pub mod queue;
pub mod request;
pub mod state;
pub mod template;
pub mod token;

pub use fault::{Fault, Faults};
pub use ids::{StepId, StepNo, TaskId};
pub use message::{CompleteStep, Evaluate, RunStep};
pub use outcome::{Outcome, Policy, Verdict, decide};
pub use queue::{Destination, Message, Outgoing, Queue, SendResult};
pub use state::{StepState, TaskState};
