//! Only one process at a time may keep dispatched messages in memory. It holds an advisory lock on a separate connection.

use std::time::Duration;

use tokio::{task::JoinHandle, time::Instant};
use tokio_postgres::{Client, types::Type};

use crate::{Connector, StoreError, pool::APPLICATION, store::sql};

/// An arbitrary constant.
const LOCK: i64 = 0x7461_736b_6f77_6e72;
/// How long the connections of a dead owner may stay open before they are terminated.
const LAST_OWNER: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The ownership of a database. It lasts as long as its connection.
pub struct Ownership {
    client: Client,
    /// The id of the server process that holds the lock.
    session: i32,
    connection: JoinHandle<()>,
}

impl Ownership {
    /// Takes the ownership. `None` if another process holds it.
    ///
    /// Returns only when all connections of the last owner have ended: a later commit of it would dispatch steps that no process
    /// knows.
    pub async fn take(database_url: &str) -> Result<Option<Self>, StoreError> {
        let owner = Self::connect(database_url).await?;
        let deadline = Instant::now() + LAST_OWNER;
        while !owner.try_lock().await? {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        while owner.others().await? > 0 {
            if Instant::now() >= deadline {
                owner.end_others().await?;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(Some(owner))
    }

    /// Takes the ownership again after it was lost, while this process keeps its connections. `None` if another process was faster.
    pub async fn reclaim(&self, database_url: &str) -> Result<Option<Self>, StoreError> {
        let owner = Self::connect(database_url).await?;
        if owner.try_lock().await? {
            return Ok(Some(owner));
        }
        let last = owner.client.query_typed(sql!("owner_end_last"), &[(&self.session, Type::INT4)]).await?;
        if last.is_empty() {
            return Ok(None);
        }
        Err(StoreError::Unavailable("the server had not noticed that the last session is gone".into()))
    }

    async fn connect(database_url: &str) -> Result<Self, StoreError> {
        let mut access = Connector::by_url(database_url)?;
        access.config.application_name("tasker-owner").connect_timeout(LAST_OWNER);
        let (client, connection) = access.connect().await?;
        let session = client.query_typed(sql!("owner_session"), &[]).await?[0].get(0);
        Ok(Self { client, session, connection })
    }

    /// Returns when the ownership is lost.
    pub async fn lost(&mut self) {
        // Whatever ended the connection, the lock is gone.
        let _ = (&mut self.connection).await;
    }

    async fn try_lock(&self) -> Result<bool, StoreError> {
        Ok(self.client.query_typed(sql!("owner_lock"), &[(&LOCK, Type::INT8)]).await?[0].get(0))
    }

    async fn others(&self) -> Result<i64, StoreError> {
        Ok(self.client.query_typed(sql!("owner_others"), &[(&APPLICATION, Type::TEXT)]).await?[0].get(0))
    }

    async fn end_others(&self) -> Result<(), StoreError> {
        self.client.query_typed(sql!("owner_end_others"), &[(&APPLICATION, Type::TEXT)]).await?;
        Ok(())
    }
}
