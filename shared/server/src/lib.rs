//! The orchestrator as one process: the engine over a database, the REST interface, and a supervised process for each worker.
//! [`postgres`] runs private PostgreSQL servers for this process, tests and scripts.
//!
//! A program parses its arguments, listens to signals and calls [`run`]. This crate prints nothing: it returns errors and reports events.

mod connections;
mod data_dir;
mod database;
mod folder;
mod loops;
mod options;
mod ownership;
pub mod postgres;
mod system;
mod templates;

pub use database::{check_url, migrate, migration_status};
pub use folder::{TemplateFile, template_files};
pub use loops::drain_queue;
pub use options::{Options, WorkerCommand};
pub use system::{Event, run};
pub use tasker_store::runtime_grants;
pub use templates::Templates;

/// One sentence that names the problem and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

pub type Result<T = ()> = std::result::Result<T, Error>;

impl From<anyhow::Error> for Error {
    fn from(error: anyhow::Error) -> Self {
        Self(format!("{error:#}"))
    }
}
