//! The store: its connections, and the place where reads of tasks gather.

use std::{sync::Arc, time::Duration};

use tasker_process::Batcher;
use tasker_wire::TaskId;

use crate::{
    Connector, StoreError, TaskDetail,
    pool::{Counts, Pool},
};

/// How long a call waits for a free connection, and for a new one to be made.
const WAIT: Duration = Duration::from_secs(5);
/// The same where a refused login may be about to change.
const WAIT_FOR_LOGIN: Duration = Duration::from_secs(25);

/// Statements that read tasks in detail at once.
const DETAILS: usize = 2;
/// Tasks that one of them reads.
const DETAILS_TOGETHER: usize = 50;

/// The database, shared by everything in the process.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: Arc<Pool>,
    pub(crate) details: Arc<Batcher<TaskId, Result<Option<TaskDetail>, StoreError>>>,
}

impl Store {
    /// A store over at most `connections` connections, made when they are needed. `database_url` is a libpq URL or key-value string.
    /// It leaves nothing behind in a session, so it works through a pooler.
    pub fn new(database_url: &str, connections: usize) -> Result<Self, StoreError> {
        Ok(Self::with(Pool::new(Connector::by_url(database_url)?, connections, WAIT)?))
    }

    /// The same by a connector whose logins may change: a call waits while a new one is looked for.
    pub fn over(connector: Connector, connections: usize) -> Result<Self, StoreError> {
        Ok(Self::with(Pool::new(connector, connections, WAIT_FOR_LOGIN)?))
    }

    /// The same over connections that are the server's own sessions: the calls of the hot path are prepared once in each, which
    /// saves a twelfth of the server's work. Not for a pooler, where another client's session may hold another statement under the name.
    pub fn direct(database_url: &str, connections: usize) -> Result<Self, StoreError> {
        Ok(Self::with(Pool::new(Connector::by_url(database_url)?, connections, WAIT)?.preparing()))
    }

    fn with(pool: Pool) -> Self {
        Self { pool: Arc::new(pool), details: Batcher::new(DETAILS, DETAILS_TOGETHER, |_| 1) }
    }

    pub fn counts(&self) -> Counts {
        self.pool.counts()
    }

    /// Connections that may be open at once.
    pub fn connections(&self) -> usize {
        self.pool.capacity()
    }
}
