//! Runs step handlers in a supervised child process of any language ([`Executor`]; `workers/README.md` describes the protocol).
//! [`run`] joins an executor to a source of steps and to the queue that takes their outcomes. It enforces time-outs and finds out
//! which step killed a process. It decides no retries, stores nothing, and never sees the database.

mod child;
mod executor;
mod gate;
mod outbox;
mod run;
mod settings;
#[cfg(test)]
mod testing;

pub use child::{BadCommand, Command, StartError};
pub use executor::Executor;
pub use gate::Gate;
pub use run::{Stats, run};
pub use settings::Settings;
