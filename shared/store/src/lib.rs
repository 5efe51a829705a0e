//! Every SQL statement of the orchestrator and the calls around them: the only crate that knows PostgreSQL.
//!
//! Statements live in `sql/`, one a file; the functions they call in `migrations/`. A call is one statement in autocommit, so
//! nothing is ever left half open, and a call that failed or lost its answer can be made again as a whole.

mod change;
mod connector;
mod dead_letters;
pub mod doctor;
mod error;
mod migrations;
mod ownership;
mod pool;
pub mod read;
pub mod show;
mod templates;
mod verbs;

pub use change::{Change, Lost, RunRow, TaskHeader};
pub use connector::{Connector, Credentials, Login};
pub use error::StoreError;
pub use migrations::{migrate, migrate_by, migration_status};
pub use ownership::Ownership;
pub use pool::{Counts, Store};
pub use templates::{NewTemplate, StoredTemplate};
pub use verbs::{Completion, DispatchSettings, NewTask, Submitted, TemplateRows};
