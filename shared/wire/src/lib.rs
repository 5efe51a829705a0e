//! Everything that crosses a process boundary: ids, messages, outcomes, answers and the documents of the REST interface.
//!
//! Only types and their (de)serialization: no rules, no YAML, no JSON Schema. `tasker-domain` decides what a document means.

pub mod answer;
pub mod child;
pub mod fault;
pub mod ids;
mod json;
pub mod kept;
pub mod limits;
pub mod message;
pub mod outcome;
pub mod reason;
pub mod rest;
pub mod state;

pub use answer::Answer;
pub use fault::{Fault, Faults};
pub use ids::{StepId, StepNo, TaskId};
pub use json::Json;
pub use message::{CompleteStep, Evaluate, Lease, RunStep};
pub use outcome::{Failure, Outcome};
pub use reason::{Remedy, StepReason, TaskReason};
pub use state::{StepState, TaskState};
