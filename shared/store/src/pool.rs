//! The connections, and the one call that uses them. Waits are bounded, a statement is repeated after a conflict, and an outage of
//! the database is logged once when it begins and once when it ends.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use deadpool_postgres::{ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Row, types::ToSql};

use crate::{Connector, StoreError, error::is_conflict, locks::Blocker, row::Argument, store::sql};

/// A connection that was idle for this long is tested before it is used.
const IDLE: Duration = Duration::from_secs(5);
/// The timeout of that test.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a request waits for a connection that requests may use.
const TURN: Duration = Duration::from_secs(5);
/// How long the answer to a statement that moves steps may take. The server ends it 5 s earlier (`session_of_pool.sql`), so without an
/// answer the server or the network is down.
const STATEMENT: Duration = Duration::from_secs(30);
/// The same for requests, whose callers wait.
const REQUEST: Duration = Duration::from_secs(10);
/// How long the request that cancels such a statement may take.
const CANCEL: Duration = Duration::from_secs(5);
/// The interval at which the log repeats what statements wait for.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// How often a statement is repeated after a deadlock.
const CONFLICT_RETRIES: u32 = 5;
/// The pause before the first repetition. Each further one is longer.
const CONFLICT_PAUSE: Duration = Duration::from_millis(20);

/// Connections reserved for statements that move steps, so accepted tasks progress under any load of requests.
const FOR_STEPS: usize = 2;

/// The application name of the connections. The ownership finds them by it.
pub(crate) const APPLICATION: &str = "tasker";

pub(crate) struct Pool {
    connections: deadpool_postgres::Pool,
    connector: Connector,
    prepares: bool,
    /// One permit for each connection that requests may use.
    requests: Semaphore,
    statements: AtomicU64,
    conflicts: AtomicU64,
    health: Mutex<Health>,
    /// When the log last said what statements wait for.
    said: Mutex<Option<Instant>>,
}

/// Whether the database answers. Only a call that began after the last change can change it: when an outage begins or ends, the
/// results of concurrent calls arrive in any order.
struct Health {
    down: bool,
    since: Instant,
}

/// Counters since the store was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Sent statements. Each is one round trip and one commit.
    pub statements: u64,
    /// Statements that were repeated after a deadlock or a serialization failure.
    pub conflicts: u64,
}

/// Which connections a statement may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// For statements that move steps. They never queue behind requests.
    Steps,
    /// For submits, reads and operator actions. They leave [`FOR_STEPS`] connections free.
    Requests,
}

/// Whether each session prepares the statement once, if the store has direct sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepared {
    /// For frequent calls of functions. Other statements must not keep a plan that was made while their tables were empty.
    Once,
    Never,
}

pub(crate) type Param<'a> = &'a (dyn Argument + Sync);

impl Pool {
    pub(crate) fn new(mut connector: Connector, connections: usize, wait: Duration) -> Result<Self, StoreError> {
        connector.config.application_name(APPLICATION);
        let connector = connector.with_settings(sql!("session_of_pool"));
        let used = AtomicU64::new(epoch_ms());
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = deadpool_postgres::Pool::builder(Manager::from_connect(connector.config.clone(), connector.clone(), settings))
            .max_size(connections)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait))
            .recycle_timeout(Some(wait))
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                // By both clocks, because one of them may stop while a sandbox is frozen.
                let idle = metrics.last_used().max(asleep(&used));
                Box::pin(verify(client, idle))
            }))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::Bug(e.to_string()))?;
        Ok(Self {
            connections: pool,
            connector,
            prepares: false,
            requests: Semaphore::new(connections.saturating_sub(FOR_STEPS).max(1)),
            statements: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            health: Mutex::new(Health { down: false, since: Instant::now() }),
            said: Mutex::default(),
        })
    }

    pub(crate) fn preparing(self) -> Self {
        Self { prepares: true, ..self }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { statements: self.statements.load(Relaxed), conflicts: self.conflicts.load(Relaxed) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.connections.status().max_size
    }

    /// Runs a statement: one implicit transaction, one round trip. Repeats it after a deadlock.
    pub(crate) async fn run(
        &self,
        lane: Lane,
        prepared: Prepared,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let _turn = if lane == Lane::Requests { Some(self.turn().await?) } else { None };
        let begun = Instant::now();
        let mut tries = 0;
        let result = loop {
            match self.try_once(lane, prepared, sql, params).await {
                Err(failed) if failed.conflict && tries < CONFLICT_RETRIES => {
                    tries += 1;
                    self.conflicts.fetch_add(1, Relaxed);
                    // An immediate repetition would take the same lock again before the statement that waits for it wakes up.
                    tokio::time::sleep(CONFLICT_PAUSE * tries).await;
                }
                result => break result.map_err(|failed| failed.error),
            }
        };
        self.observe(begun, &result);
        if let Err(StoreError::TimedOut(reason)) = &result {
            self.say_what_holds(reason).await;
        }
        result
    }

    /// The sessions that may hold what our statements wait for.
    pub(crate) async fn blockers(&self) -> Result<Vec<Blocker>, StoreError> {
        let rows = self.try_once(Lane::Steps, Prepared::Never, sql!("blockers"), &[]).await.map_err(|failed| failed.error)?;
        Ok(rows.iter().map(Blocker::read).collect())
    }

    /// Logs why a statement was ended and which sessions hold locks, once in [`SAY_AGAIN`].
    async fn say_what_holds(&self, reason: &str) {
        {
            let mut said = self.said.lock();
            if said.is_some_and(|at| at.elapsed() < SAY_AGAIN) {
                return;
            }
            *said = Some(Instant::now());
        }
        let held_by: Vec<String> = self.blockers().await.unwrap_or_default().into_iter().map(|blocker| blocker.text).collect();
        tracing::warn!(reason, held_by = held_by.join("; "), "a statement waited too long; its work is tried again");
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        match tokio::time::timeout(TURN, self.requests.acquire()).await {
            Ok(turn) => Ok(turn.expect("the semaphore is never closed")),
            Err(_) => Err(StoreError::Unavailable(format!("no connection within {} s", TURN.as_secs()))),
        }
    }

    async fn try_once(
        &self,
        lane: Lane,
        prepared: Prepared,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failed> {
        let client = self.connections.get().await.map_err(|e| Failed { error: from_pool(e), conflict: false })?;
        let cancel = client.cancel_token();
        self.statements.fetch_add(1, Relaxed);
        let rows = async {
            let typed = params.iter().map(|&param| (param as &(dyn ToSql + Sync), param.sql_type()));
            if prepared == Prepared::Never || !self.prepares {
                return client.query_typed(sql, &typed.collect::<Vec<_>>()).await;
            }
            let (values, types): (Vec<_>, Vec<_>) = typed.unzip();
            let statement = client.prepare_typed_cached(sql, &types).await?;
            client.query(&statement, &values).await
        };
        let patience = if lane == Lane::Requests { REQUEST } else { STATEMENT };
        let failed = match tokio::time::timeout(patience, rows).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(e)) => Failed { conflict: is_conflict(&e), error: e.into() },
            Err(_) => {
                // It may still run on the server. Cancelled by a connection of its own, which nothing waits for.
                let connector = self.connector.clone();
                tokio::spawn(async move { tokio::time::timeout(CANCEL, connector.cancel(cancel)).await });
                Failed { error: StoreError::Unanswered(format!("no answer within {} s", patience.as_secs())), conflict: false }
            }
        };
        let session_is_sound = failed.conflict || matches!(failed.error, StoreError::TimedOut(_));
        if failed.error.is_transient() && !session_is_sound {
            // A server that became read-only or is shutting down would reject the next caller too.
            drop(Object::take(client));
        }
        Err(failed)
    }

    /// Logs the begin and the end of an outage once each.
    fn observe(&self, begun: Instant, result: &Result<Vec<Row>, StoreError>) {
        match result {
            Err(StoreError::Unavailable(reason) | StoreError::Unanswered(reason)) if self.learned(begun, true) => {
                tracing::error!(
                    reason,
                    "the database is not available; requests are rejected and work waits until it is available again"
                );
            }
            // Each session is refused, so each outage of this kind is said once too.
            Err(StoreError::Setting(reason)) if self.learned(begun, true) => {
                tracing::error!(reason, "the database is refused; requests are rejected and work waits");
            }
            Err(StoreError::Bug(reason)) => {
                tracing::error!(reason, "the database rejected a statement; this is a bug in the orchestrator");
            }
            Ok(_) if self.learned(begun, false) => tracing::info!("the database is available again"),
            _ => {}
        }
    }

    /// Whether the result of a call that began at `begun` is new information.
    fn learned(&self, begun: Instant, down: bool) -> bool {
        let mut health = self.health.lock();
        if health.down == down || begun < health.since {
            return false;
        }
        *health = Health { down, since: Instant::now() };
        true
    }
}

struct Failed {
    error: StoreError,
    /// An immediate repetition may succeed.
    conflict: bool,
}

/// The time by the wall clock since the last call.
fn asleep(used: &AtomicU64) -> Duration {
    let now = epoch_ms();
    Duration::from_millis(now.saturating_sub(used.swap(now, Relaxed)))
}

fn epoch_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The network may have closed an idle connection silently, above all while the whole process was frozen.
async fn verify(client: &ClientWrapper, idle: Duration) -> Result<(), HookError> {
    if idle < IDLE {
        return Ok(());
    }
    match tokio::time::timeout(ANSWER, client.simple_query("")).await {
        Ok(answer) => answer.map(drop).map_err(HookError::Backend),
        Err(_) => Err(HookError::message("an idle connection does not answer")),
    }
}

fn from_pool(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(e) => match StoreError::from(e) {
            // A rejected login is an outage, not a bug: the database may not exist yet. No statement was sent.
            StoreError::Bug(text) | StoreError::Unanswered(text) | StoreError::TimedOut(text) => StoreError::Unavailable(text),
            other => other,
        },
        PoolError::Timeout(_) => StoreError::Unavailable("no connection in time".into()),
        other => StoreError::Unavailable(other.to_string()),
    }
}
