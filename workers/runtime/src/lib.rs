//! Runs step handlers in a supervised child process of any language ([`Executor`]; `workers/README.md` describes the protocol).
//! [`run`] connects an executor to a source of steps and to the queue for their outcomes. It enforces timeouts and finds the step
//! that killed a process. It decides no retries, stores nothing, and never sees the database.

mod child;
mod executor;
mod gate;
mod outbox;
mod pause;
mod run;
mod settings;
#[cfg(test)]
mod testing;

pub use child::{BadCommand, Command, StartError};
pub use executor::Executor;
pub use gate::Gate;
pub use run::{Stats, run};
pub use settings::WorkerSettings;
