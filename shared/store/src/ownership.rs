//! Only one process at a time may keep dispatched messages in memory. It holds an advisory lock on a separate connection.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_postgres::{Client, types::Type};

use crate::{
    Connector, StoreError,
    access::Access,
    pool::APPLICATION,
    session::{Fence, fresh_mark},
    store::sql,
};

/// An arbitrary constant.
const LOCK: i64 = 0x7461_736b_6f77_6e72;
/// How long the connections of a dead owner may stay open before they are terminated.
const LAST_OWNER: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The ownership of a database. It lasts as long as its session on the server.
pub struct Ownership {
    connector: Connector,
    client: Client,
    /// A lock that only this session holds.
    mark: i64,
    /// The same, for the connections of [`crate::Store::owned`].
    pub(crate) fence: Fence,
    connection: JoinHandle<()>,
}

impl Ownership {
    /// Takes the ownership. `None` if another process holds it.
    ///
    /// Returns only when all connections of the last owner have ended: a later commit of it would dispatch steps that no process
    /// knows.
    pub async fn take(database_url: &str) -> Result<Option<Self>, StoreError> {
        let mut connector = Connector::by_url(database_url)?.with_settings("set statement_timeout = 0;");
        connector.config.application_name("tasker-owner");
        let owner = Self::connect(connector, Fence::default()).await?;
        check_sessions(&owner.connector, &owner.client).await?;
        Access::read(&owner.client).await?.check_may_run(&owner.client).await?;
        let deadline = Instant::now() + LAST_OWNER;
        while !owner.try_lock().await? {
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sleep(LOOK_AGAIN).await;
        }
        owner.end_others(deadline).await?;
        Ok(Some(owner))
    }

    /// Takes the ownership again after it was lost. `None` if another process was faster. Ends all connections, also of this process: they
    /// may be of a process that was the owner meanwhile.
    pub async fn reclaim(&self) -> Result<Option<Self>, StoreError> {
        let owner = Self::connect(self.connector.clone(), self.fence.clone()).await?;
        if owner.try_lock().await? {
            owner.end_others(Instant::now()).await?;
            return Ok(Some(owner));
        }
        let Some((session, _)) = holder(&owner.client, self.mark).await? else { return Ok(None) };
        end(&owner.client, &[session]).await?;
        Err(StoreError::Unavailable("the server had not noticed that the last session is gone".into()))
    }

    async fn connect(connector: Connector, fence: Fence) -> Result<Self, StoreError> {
        let (client, connection) = connector.open().await?;
        Ok(Self { connector, client, mark: fresh_mark(), fence, connection })
    }

    /// Returns when the connection has ended.
    pub async fn disconnected(&mut self) {
        let _ = (&mut self.connection).await;
    }

    /// Asks the server whether this session still holds the ownership. Waits for the answer without a bound.
    pub async fn is_held(&self) -> Result<bool, StoreError> {
        Ok(holder(&self.client, self.mark).await?.is_some_and(|(_, is_this_session)| is_this_session))
    }

    async fn try_lock(&self) -> Result<bool, StoreError> {
        let locks = [(&LOCK as _, Type::INT8), (&self.mark as _, Type::INT8)];
        let taken = self.client.query_typed(sql!("owner_lock"), &locks).await?[0].get(0);
        if taken {
            self.fence.set(self.mark);
        }
        Ok(taken)
    }

    /// Returns when no connection is left that began before the lock was taken. From `deadline` on they are terminated.
    async fn end_others(&self, deadline: Instant) -> Result<(), StoreError> {
        let others = self.others().await?;
        loop {
            let left: Vec<i32> = self.others().await?.into_iter().filter(|session| others.contains(session)).collect();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                end(&self.client, &left).await.map_err(|why| match why.is_transient() {
                    true => why,
                    false => StoreError::Setting(format!(
                        "connections of another tasker process to this database cannot be ended ({why}); stop it, or connect as its role"
                    )),
                })?;
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn others(&self) -> Result<Vec<i32>, StoreError> {
        let rows = self.client.query_typed(sql!("owner_others"), &[(&APPLICATION, Type::TEXT)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        // A farewell might never leave a connection that is half open.
        self.connection.abort();
    }
}

/// Fails unless an advisory lock lasts exactly as long as its connection. A pooler that gives each transaction another session of the
/// server loses the lock at once, or keeps it for ever. `client` is another connection of the connector.
pub(crate) async fn check_sessions(connector: &Connector, client: &Client) -> Result<(), StoreError> {
    let mark = fresh_mark();
    let (probe, connection) = connector.open().await?;
    probe.query_typed(sql!("owner_mark"), &[(&mark, Type::INT8)]).await?;
    let kept = holder(&probe, mark).await?.is_some_and(|(_, is_this_session)| is_this_session);
    drop(probe);
    let _ = tokio::time::timeout(LAST_OWNER, connection).await;
    let deadline = Instant::now() + LAST_OWNER;
    while let Some((session, is_this_session)) = holder(client, mark).await? {
        if is_this_session || Instant::now() >= deadline {
            // The session outlives the lock's purpose. It may be the one that carries this statement.
            let _ = end(client, &[session]).await;
            return Err(pooled());
        }
        sleep(LOOK_AGAIN).await;
    }
    if kept { Ok(()) } else { Err(pooled()) }
}

fn pooled() -> StoreError {
    StoreError::Setting(
        "the database is behind a pooler that does not keep sessions (such as PgBouncer in transaction mode), and the ownership of \
         the database is a session; give the address of the server itself, or of a pool in session mode"
            .into(),
    )
}

/// The session that holds a mark, and whether it is the client's own.
async fn holder(client: &Client, mark: i64) -> Result<Option<(i32, bool)>, StoreError> {
    let rows = client.query_typed(sql!("owner_holder"), &[(&mark, Type::INT8)]).await?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}

async fn end(client: &Client, sessions: &[i32]) -> Result<(), StoreError> {
    client.query_typed(sql!("owner_end"), &[(&sessions, Type::INT4_ARRAY)]).await?;
    Ok(())
}
