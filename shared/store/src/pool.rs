//! The connections, and one call over them: bounded wait, whole-statement retry on conflicts, one log line when the
//! database goes and one when it is back.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use deadpool_postgres::{
    ClientWrapper, Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use tasker_process::Batcher;
use tasker_wire::TaskId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use crate::{Connector, StoreError, error::is_conflict, show::TaskDetail};

/// How long a call waits for a free connection, and for a new one to be made.
const WAIT: Duration = Duration::from_secs(5);
/// The same where a login that was refused may be about to change.
const WAIT_FOR_LOGIN: Duration = Duration::from_secs(25);
/// A connection that was idle for so long is asked whether it is still there before it is used.
const IDLE: Duration = Duration::from_secs(5);
/// How long its answer may take.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a statement may take. Far above every statement of ours; beyond it the server or the way to it is gone.
const STATEMENT: Duration = Duration::from_secs(30);
/// How often a statement that met a deadlock is made again.
const CONFLICT_RETRIES: usize = 5;
/// How long it waits before, longer with each time.
const CONFLICT_PAUSE: Duration = Duration::from_millis(20);

/// Connections that are kept for what moves steps: however many ask, look and submit, what was accepted goes on.
const FOR_STEPS: usize = 2;
/// Statements that look at tasks at once.
const SHOWING: usize = 2;
/// Tasks that one of them shows.
const SHOWN_TOGETHER: usize = 50;

/// What the connections of a pool are called in the server's views; the ownership looks for it.
pub(crate) const APPLICATION: &str = "tasker";

/// The database, shared by everything in the process.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    /// What is called often is prepared once a connection.
    prepares: bool,
    /// What everything but moving steps may use of the pool.
    others: Semaphore,
    shows: Arc<Shows>,
    statements: AtomicU64,
    conflicts: AtomicU64,
    health: Mutex<Health>,
}

/// Where callers that look at tasks gather.
type Shows = Batcher<TaskId, Result<Option<TaskDetail>, StoreError>>;

/// Whether the database answers, as far as the last call knows that was begun since that was last learned: the answers of
/// several connections come in any order when it goes or comes.
struct Health {
    down: bool,
    since: Instant,
}

/// What the store did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Statements sent; each is one round trip and one commit.
    pub statements: u64,
    /// Statements repeated after a deadlock or serialization failure.
    pub conflicts: u64,
}

pub(crate) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

impl Store {
    /// A store over at most `connections` connections, made when they are needed. `database_url` is a libpq URL or key-value string.
    /// It leaves nothing behind in a session, so it works through a pooler.
    pub fn new(database_url: &str, connections: usize) -> Result<Self, StoreError> {
        Self::make(Connector::by_url(database_url)?, connections, false, WAIT)
    }

    /// The same by an access whose logins may change: a call waits while a new one is looked for.
    pub fn over(access: Connector, connections: usize) -> Result<Self, StoreError> {
        Self::make(access, connections, false, WAIT_FOR_LOGIN)
    }

    /// The same over connections that are the server's own sessions: the calls of the hot path are prepared once in each, which
    /// saves a twelfth of the server's work. Not for a pooler, where another client's session may hold another statement under the name.
    pub fn direct(database_url: &str, connections: usize) -> Result<Self, StoreError> {
        Self::make(Connector::by_url(database_url)?, connections, true, WAIT)
    }

    fn make(mut access: Connector, connections: usize, prepares: bool, wait: Duration) -> Result<Self, StoreError> {
        access.config.application_name(APPLICATION);
        let used = AtomicU64::new(epoch_ms());
        let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_connect(access.config.clone(), access, settings))
            .max_size(connections)
            .wait_timeout(Some(wait))
            .create_timeout(Some(wait))
            .recycle_timeout(Some(wait))
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                // By both clocks: while a sandbox is frozen one of them may stand still.
                let idle = metrics.last_used().max(asleep(&used));
                Box::pin(verify(client, idle))
            }))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::Bug(e.to_string()))?;
        let inner = Inner {
            pool,
            prepares,
            others: Semaphore::new(connections.saturating_sub(FOR_STEPS).max(1)),
            shows: Batcher::new(SHOWING, SHOWN_TOGETHER, |_| 1),
            statements: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            health: Mutex::new(Health { down: false, since: Instant::now() }),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        Counts { statements: self.inner.statements.load(Relaxed), conflicts: self.inner.conflicts.load(Relaxed) }
    }

    pub(crate) fn shows(&self) -> &Arc<Shows> {
        &self.inner.shows
    }

    /// Connections that may be open at once.
    pub fn connections(&self) -> usize {
        self.inner.pool.status().max_size
    }

    /// Makes one statement: one implicit transaction, one round trip. Repeated as a whole when it met a deadlock.
    /// It waits for its turn beside everything else that does not move steps.
    pub(crate) async fn query(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let _place = self.place().await?;
        self.answer(sql, params, false).await
    }

    /// The same for a call of a function that is made for every step or task. Only functions: a statement that is planned once must
    /// not keep a plan that was made while its tables were empty.
    pub(crate) async fn call(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let _place = self.place().await?;
        self.answer(sql, params, self.inner.prepares).await
    }

    /// The same for what moves steps on, which waits for none of the others.
    pub(crate) async fn advance(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.answer(sql, params, self.inner.prepares).await
    }

    /// The same for a statement that is not prepared.
    pub(crate) async fn advance_unprepared(&self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        self.answer(sql, params, false).await
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        match tokio::time::timeout(WAIT, self.inner.others.acquire()).await {
            Ok(place) => Ok(place.expect("it is never closed")),
            Err(_) => Err(StoreError::Unavailable(format!("no connection within {} s", WAIT.as_secs()))),
        }
    }

    async fn answer(&self, sql: &'static str, params: &[Param<'_>], prepared: bool) -> Result<Vec<Row>, StoreError> {
        let mut tries = 0;
        let begun = Instant::now();
        loop {
            let result = self.query_once(sql, params, prepared).await;
            match &result {
                Err(Failed::Conflict(_)) if tries < CONFLICT_RETRIES => {
                    tries += 1;
                    self.inner.conflicts.fetch_add(1, Relaxed);
                    // At once it would take the same lock again before the one that waits for it wakes up.
                    tokio::time::sleep(CONFLICT_PAUSE * tries as u32).await;
                }
                _ => return self.observe(begun, result.map_err(Failed::into_error)),
            }
        }
    }

    async fn query_once(&self, sql: &'static str, params: &[Param<'_>], prepared: bool) -> Result<Vec<Row>, Failed> {
        let client = self.inner.pool.get().await.map_err(|e| Failed::Other(from_pool(e)))?;
        self.inner.statements.fetch_add(1, Relaxed);
        let rows = async {
            if !prepared {
                return client.query_typed(sql, params).await;
            }
            let (values, types): (Vec<_>, Vec<_>) = params.iter().cloned().unzip();
            let statement = client.prepare_typed_cached(sql, &types).await?;
            client.query(&statement, &values).await
        };
        match tokio::time::timeout(STATEMENT, rows).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(e)) if is_conflict(&e) => Err(Failed::Conflict(e)),
            Ok(Err(e)) => {
                let error = StoreError::from(e);
                if error.is_transient() {
                    // A server that became read-only or is shutting down would answer the next caller likewise.
                    drop(Object::take(client));
                }
                Err(Failed::Other(error))
            }
            Err(_) => {
                drop(Object::take(client));
                Err(Failed::Other(StoreError::Unavailable(format!("no answer within {} s", STATEMENT.as_secs()))))
            }
        }
    }

    /// Logs the fact once when the database goes away and once when it is back.
    fn observe<T>(&self, begun: Instant, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Err(StoreError::Unavailable(reason)) if self.learned(begun, true) => {
                tracing::error!(reason, "the database is not available; requests are refused and work waits until it is back");
            }
            Err(StoreError::Bug(reason)) => {
                tracing::error!(reason, "the database refused a statement; this is a defect of the orchestrator");
            }
            Ok(_) if self.learned(begun, false) => tracing::info!("the database is available again"),
            _ => {}
        }
        result
    }

    /// Whether a call that was begun then has learned something new.
    fn learned(&self, begun: Instant, down: bool) -> bool {
        let mut health = self.inner.health.lock().unwrap_or_else(PoisonError::into_inner);
        if health.down == down || begun < health.since {
            return false;
        }
        *health = Health { down, since: Instant::now() };
        true
    }
}

/// The time by the wall clock since this was asked last.
fn asleep(used: &AtomicU64) -> Duration {
    let now = epoch_ms();
    Duration::from_millis(now.saturating_sub(used.swap(now, Relaxed)))
}

fn epoch_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A connection that was idle may have been closed on the way without a word, above all while the whole process was frozen.
async fn verify(client: &ClientWrapper, idle: Duration) -> Result<(), HookError> {
    if idle < IDLE {
        return Ok(());
    }
    match tokio::time::timeout(ANSWER, client.simple_query("")).await {
        Ok(answer) => answer.map(drop).map_err(HookError::Backend),
        Err(_) => Err(HookError::message("an idle connection does not answer")),
    }
}

enum Failed {
    Conflict(tokio_postgres::Error),
    Other(StoreError),
}

impl Failed {
    fn into_error(self) -> StoreError {
        match self {
            Self::Conflict(e) => e.into(),
            Self::Other(e) => e,
        }
    }
}

fn from_pool(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(e) => match StoreError::from(e) {
            // A login that is refused is the world being unwell, not a defect: the database may not exist yet.
            StoreError::Bug(text) => StoreError::Unavailable(text),
            other => other,
        },
        PoolError::Timeout(_) => StoreError::Unavailable("no connection in time".into()),
        other => StoreError::Unavailable(other.to_string()),
    }
}
