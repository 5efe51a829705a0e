//! Runs step handlers and reports what came of them: in process ([`Executor::in_process`]) or in a supervised child process
//! of any language ([`Executor::child`], whose protocol is in `workers/README.md`). [`run`] joins an executor to a source of
//! deliveries and to the queue that takes the outcomes. It enforces time-outs and tells who is to blame when a process dies;
//! it decides no retries, keeps nothing, and never sees the database.

mod child;
mod executor;
mod gate;
mod in_process;
mod outbox;
mod run;
mod settings;
#[cfg(test)]
mod testing;

pub use child::{BadCommand, Command, StartError};
pub use executor::{Beat, Executor};
pub use gate::Gate;
pub use run::{Deliveries, Stats, run};
pub use settings::Settings;
