//! Write step handlers as async functions, and run them.
//!
//! ```no_run
//! use serde_json::json;
//! use tasker_sdk::{PermanentError, StepContext, StepError, Worker};
//!
//! async fn charge(context: StepContext) -> Result<serde_json::Value, StepError> {
//!     let amount: u64 = context.input("amount")?;
//!     if amount == 0 {
//!         return Err(PermanentError::new("nothing to charge").into());
//!     }
//!     Ok(json!({ "charged": amount, "key": context.step_uuid() }))
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Worker::new().handler("charge", charge).run()
//! }
//! ```
//!
//! A handler runs at least once for each step: use [`StepContext::step_uuid`] as the idempotency key of actions that must not happen
//! twice. `tasker-worker` or `tasker-ctl dev` starts the program and talks to it over two pipes. It never sees the database.

#![warn(missing_docs)]

mod batch;
mod context;
mod decision;
mod error;
mod result;
mod run;
#[cfg(test)]
mod testing;
mod words;
mod worker;

pub use batch::{BatchCursor, BatchInputs, BatchMetadata, Batches};
pub use context::StepContext;
pub use decision::Decision;
pub use error::{PermanentError, RetryableError, StepError};
pub use result::{IntoOutcome, StepResult};
pub use tasker_wire::Failure;
pub use worker::{Heartbeat, Worker};
