//! Errors of the store, by how a caller can react.

use tasker_process::root_cause;
use tokio_postgres::error::{DbError, SqlState};

use crate::session::REFUSED;

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be used now. The call had no effect; the same call can be repeated.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The statement was sent and its answer did not arrive. It may have taken effect; the same call can be repeated.
    #[error("the database did not answer: {0}")]
    Unanswered(String),
    /// The server ended the statement: a lock was not free in time, or it took too long. It had no effect, and other statements may
    /// succeed meanwhile.
    #[error("the database ended a statement: {0}")]
    TimedOut(String),
    /// The caller's value cannot be stored (SQLSTATE class 22 or 54). Nothing was stored.
    #[error("a value cannot be stored: {0}")]
    Data(String),
    /// The address of the database is wrong, or its content is not ours.
    #[error("{0}")]
    Setting(String),
    /// A bug of ours, such as a violated CHECK or a missing function. Nothing was stored.
    #[error("the database rejected a statement: {0}")]
    Bug(String),
}

impl StoreError {
    /// The same error of a call that only reads.
    pub(crate) fn of_a_read(self) -> Self {
        if let Self::Unanswered(text) = self { Self::Unavailable(text) } else { self }
    }

    /// The same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unanswered(_) | Self::TimedOut(_))
    }
}

/// Whether an immediate repetition may succeed: after a deadlock or a serialization failure.
pub(crate) fn is_conflict(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|c| *c == SqlState::T_R_DEADLOCK_DETECTED || *c == SqlState::T_R_SERIALIZATION_FAILURE)
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::of(&error)
    }
}

impl StoreError {
    /// What an error of the driver or the server means for its caller.
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            return Self::Unanswered(root_cause(error).to_string());
        };
        if db.code().code() == REFUSED {
            return Self::Setting(db.message().to_owned());
        }
        let text = words(db);
        if *db.code() == SqlState::LOCK_NOT_AVAILABLE || *db.code() == SqlState::QUERY_CANCELED {
            return Self::TimedOut(text);
        }
        match &db.code().code()[..2] {
            "22" | "54" => Self::Data(text),
            // Connection, transaction state of a server that is shutting down, resources, operator intervention, system
            // error. 25006 is a server that became read-only in a failover, 28 a rotated password, 26 a prepared statement that the
            // session does not have; its connection is discarded.
            "08" | "25" | "26" | "28" | "40" | "53" | "55" | "57" | "58" => Self::Unavailable(text),
            _ => Self::Bug(text),
        }
    }
}

/// The server's message, its code, and what may remedy it. Its detail stays out: it may repeat the values of a row.
fn words(error: &DbError) -> String {
    let remedy = match (error.code(), error.hint()) {
        (&SqlState::INSUFFICIENT_PRIVILEGE, _) => {
            "; `tasker-ctl db migrate --print-grants` prints the rights that a role needs".to_owned()
        }
        (_, Some(hint)) => format!("; {hint}"),
        (_, None) => String::new(),
    };
    format!("{} ({}){remedy}", error.message(), error.code().code())
}
