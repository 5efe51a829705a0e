//! Errors of the store, by what a caller can do about them.

use tasker_process::root_cause;
use tokio_postgres::error::SqlState;

/// Why a call was not carried out, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be asked now; the call may have been carried out. Try the same call again.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A value cannot be stored (SQLSTATE class 22 or 54). The caller's value is wrong, nothing was stored.
    #[error("a value cannot be stored: {0}")]
    Data(String),
    /// The address of the database, or what is in it, is not what the caller thinks.
    #[error("{0}")]
    Setting(String),
    /// We are wrong: a violated CHECK, a missing function. Nothing was stored.
    #[error("the database refused a statement: {0}")]
    Bug(String),
}

impl StoreError {
    /// The same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// Whether the whole statement is worth repeating at once: a deadlock or a serialization failure.
pub(crate) fn is_conflict(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|c| *c == SqlState::T_R_DEADLOCK_DETECTED || *c == SqlState::T_R_SERIALIZATION_FAILURE)
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Unavailable(root_cause(&error).to_string());
        };
        let text = format!("{} ({})", db.message(), db.code().code());
        match &db.code().code()[..2] {
            "22" | "54" => Self::Data(text),
            // Connection, transaction state of a server that is going away, resources, operator intervention, system
            // error; 25006 is a server that became read-only by a failover, 28 a rotated password, 55P03 somebody's lock_timeout.
            // 26: a prepared statement that the session does not have; its connection is given up.
            "08" | "25" | "26" | "28" | "40" | "53" | "55" | "57" | "58" => Self::Unavailable(text),
            _ => Self::Bug(text),
        }
    }
}
