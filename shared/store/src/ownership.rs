//! One process at a time may keep dispatched messages in memory: it holds an advisory lock on a connection of its own.

use std::time::Duration;

use tokio::{task::JoinHandle, time::Instant};
use tokio_postgres::{Client, types::Type};

use crate::{Connector, StoreError, pool::APPLICATION};

/// Any number, as long as it is always the same.
const LOCK: i64 = 0x7461_736b_6f77_6e72;
/// How long the last owner's connections may take to end after it died; then they are ended.
const LAST_OWNER: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The ownership of a database, held as long as its connection lives.
pub struct Ownership {
    client: Client,
    /// The server's process that holds it.
    session: i32,
    connection: JoinHandle<()>,
}

impl Ownership {
    /// Takes the ownership; none when another process holds it.
    ///
    /// Returns only when nothing of the last owner works any more: a statement of its own that commits later would dispatch
    /// steps that nobody knows of.
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

    /// Takes it back after it was lost, beside this process's own connections; none when another process was faster.
    pub async fn reclaim(&self, database_url: &str) -> Result<Option<Self>, StoreError> {
        let owner = Self::connect(database_url).await?;
        if owner.try_lock().await? {
            return Ok(Some(owner));
        }
        let last = owner.client.query_typed(include_str!("../sql/owner_end_last.sql"), &[(&self.session, Type::INT4)]).await?;
        if last.is_empty() {
            return Ok(None);
        }
        Err(StoreError::Unavailable("the server had not noticed that the last session is gone".into()))
    }

    async fn connect(database_url: &str) -> Result<Self, StoreError> {
        let mut access = Connector::by_url(database_url)?;
        access.config.application_name("tasker-owner").connect_timeout(LAST_OWNER);
        let (client, connection) = access.connect().await?;
        let session = client.query_typed(include_str!("../sql/owner_session.sql"), &[]).await?[0].get(0);
        Ok(Self { client, session, connection })
    }

    /// Returns when the ownership is lost.
    pub async fn lost(&mut self) {
        // How it ended does not matter: the lock went with it.
        let _ = (&mut self.connection).await;
    }

    async fn try_lock(&self) -> Result<bool, StoreError> {
        Ok(self.client.query_typed(include_str!("../sql/owner_lock.sql"), &[(&LOCK, Type::INT8)]).await?[0].get(0))
    }

    async fn others(&self) -> Result<i64, StoreError> {
        Ok(self.client.query_typed(include_str!("../sql/owner_others.sql"), &[(&APPLICATION, Type::TEXT)]).await?[0].get(0))
    }

    async fn end_others(&self) -> Result<(), StoreError> {
        self.client.query_typed(include_str!("../sql/owner_end_others.sql"), &[(&APPLICATION, Type::TEXT)]).await?;
        Ok(())
    }
}
