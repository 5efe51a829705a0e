//! The store: its connections, and the batches of reads.

use std::{sync::Arc, time::Duration};

use tasker_process::Batcher;
use tasker_wire::TaskId;
use tokio_postgres::Row;

use crate::{
    Change, Connector, Ownership, StoreError, TaskDetail,
    pool::{Counts, Lane, Param, Pool, Prepared},
};

/// The timeout for a free connection, and for opening a new one.
const WAIT: Duration = Duration::from_secs(5);
/// The same where the database may reject a login that is being rotated.
const WAIT_FOR_LOGIN: Duration = Duration::from_secs(25);

/// Concurrent statements that read task details.
const DETAILS: usize = 2;
/// Tasks that one such statement reads.
const DETAILS_TOGETHER: usize = 50;

/// The database. Its clones share the connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: Arc<Pool>,
    pub(crate) details: Arc<Batcher<TaskId, Result<Option<TaskDetail>, StoreError>>>,
}

impl Store {
    /// A store over at most `connections` connections, which are opened when needed. `database_url` is a libpq URL or key-value
    /// string. The store keeps no state in a session, so it works through a pooler.
    pub fn new(database_url: &str, connections: usize) -> Result<Self, StoreError> {
        Ok(Self::with(Pool::new(Connector::by_url(database_url)?, connections, WAIT)?))
    }

    /// A store whose logins may change. A call waits while a new login is searched for.
    pub fn over(connector: Connector, connections: usize) -> Result<Self, StoreError> {
        Ok(Self::with(Pool::new(connector, connections, WAIT_FOR_LOGIN)?))
    }

    /// A store of the owner of its database: it opens connections only while the ownership is held. They are sessions of the server, not
    /// of a pooler, as the ownership is. Each of them prepares the hot calls once, which saves a twelfth of the server's work.
    pub fn owned(ownership: &Ownership, database_url: &str, connections: usize) -> Result<Self, StoreError> {
        let connector = Connector::by_url(database_url)?.fenced(ownership.fence.clone());
        Ok(Self::with(Pool::new(connector, connections, WAIT)?.preparing()))
    }

    fn with(pool: Pool) -> Self {
        Self { pool: Arc::new(pool), details: Batcher::new(DETAILS, DETAILS_TOGETHER, |_| 1) }
    }

    /// Runs an unprepared statement on a connection for requests.
    pub(crate) async fn request(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.pool.run(Lane::Requests, Prepared::Never, sql, params).await
    }

    /// Runs a statement that only reads, so one without an answer had no effect.
    pub(crate) async fn read(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.request(sql, params).await.map_err(StoreError::of_a_read)
    }

    /// Runs a statement that returns rows of `tasker.change`.
    pub(crate) async fn changes(
        &self,
        lane: Lane,
        prepared: Prepared,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Change>, StoreError> {
        Ok(self.pool.run(lane, prepared, sql, params).await?.iter().map(Change::read).collect())
    }

    pub fn counts(&self) -> Counts {
        self.pool.counts()
    }

    /// The largest number of open connections.
    pub fn connections(&self) -> usize {
        self.pool.capacity()
    }
}

/// The text of a file in `sql/`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!("../sql/", $name, ".sql"))
    };
}

pub(crate) use sql;
