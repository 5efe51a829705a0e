//! All SQL statements of the orchestrator, and the only crate that knows PostgreSQL.
//!
//! Each file in `sql/` has one statement; the functions that they call are in `migrations/`. A call is one statement in autocommit, so
//! no transaction stays open, and a call that failed or lost its response can be repeated as a whole.

mod access;
mod change;
mod complete;
mod connector;
mod dead_letters;
mod dispatch;
pub mod doctor;
mod entries;
mod error;
mod expand;
mod explain;
mod locks;
mod migrations;
mod operator;
mod ownership;
mod pauses;
mod pool;
mod read;
mod row;
mod session;
mod staleness;
mod step;
mod store;
mod submit;
mod task;
mod templates;

pub use access::runtime_grants;
pub use change::{Change, Effect, Lost, RunRow, TaskHeader};
pub use complete::Completion;
pub use connector::{Connector, Credentials, Login};
pub use dispatch::DispatchSettings;
pub use entries::{
    EntryCause, EntryChange, EntryChanged, EntryCounts, EntryDetail, EntryPosition, MatchingEntries, MatchingEntry, UrgentEntry,
};
pub use error::StoreError;
pub use expand::{Decider, Planned};
pub use locks::Blocker;
pub use migrations::{migrate, migrate_by, migration_status};
pub use operator::{Operation, StepRisks};
pub use ownership::Ownership;
pub use pauses::{Pause, PauseScope};
pub use pool::Counts;
pub use read::TaskFilter;
pub use staleness::{StaleEntry, StalePosition, WatchedTask};
pub use step::{Resolution, StepAnswer, StepDetail};
pub use store::Store;
pub use submit::{InsertedTask, NewTask, TemplateRows};
pub use task::{StepCounts, StepSummary, TaskDetail, TaskSummary, is_ready};
pub use templates::{NewTemplate, StoredTemplate, TemplateRevision, TemplateVersion};
