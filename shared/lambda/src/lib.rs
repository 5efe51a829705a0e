//! What the functions share: the engine of an instance, the events that reach it, and what is answered to the queues. A function's
//! `main` names which of these it is; nothing here decides about workflows.

mod completions;
mod events;
#[cfg(feature = "failpoints")]
mod failpoints;
mod http;
mod instance;
mod intake;
mod logins;
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
pub use serve::{Failed, Invocation, serve};
