//! The functions of the orchestrator: the events that they accept, the state of an instance, and the responses. The `main` of a function
//! selects one of the handlers here. This crate decides nothing about workflows.

mod completions;
mod events;
#[cfg(feature = "failpoints")]
mod failpoints;
mod http;
mod instance;
mod intake;
mod messages;
mod migrate;
mod readiness;
mod secrets;
mod serve;
mod settings;

pub use completions::completions;
pub use events::{FunctionEvent, IntakeEvent, QueueEvent, ReadinessEvent};
pub use http::operator_api;
pub use instance::Instance;
pub use intake::intake;
pub use migrate::migrate;
pub use readiness::readiness;
pub use serve::{Failed, Invocation, InvocationResult, serve};
