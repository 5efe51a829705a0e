//! The rules of workflows: templates, graphs, the decision about an outcome, and the reading of requests.
//!
//! Everything here is a function of its arguments. This crate does no I/O, reads no clock and makes no ids.

pub mod action;
pub mod backoff;
pub mod decide;
pub mod digest;
pub mod dlq;
pub mod dynamic;
pub mod explain;
pub mod graph;
pub mod json;
mod near;
mod number;
mod reader;
pub mod request;
pub mod staleness;
pub mod template;
pub mod token;

pub use decide::{FailureEffect, Policy, Verdict, decide};
pub use dynamic::{Created, Decided, Expansion, GraphStep, Growth, MadeWorkers, NewWorker, Redo};
pub use near::{did_you_mean, near};
