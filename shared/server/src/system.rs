//! The server: the engine over a database, the REST interface, and a supervised process for each worker.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use backon::Retryable;
use tasker_domain::token::SigningKey;
use tasker_engine::{Engine, EngineSettings, PAUSES};
use tasker_process::{Problems, Shutdown};
use tasker_queue::InProcess;
use tasker_store::{Ownership, Store, StoreError};
use tasker_wire::limits;
use tasker_worker::Executor;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Options, Result, Templates, WorkerCommand,
    connections::{self, Bounds, affordable},
    database::{migrate, without_password},
    loops::drain_queue,
    ownership,
    postgres::PrivatePostgres,
    templates::{register_all, tell_unserved},
};

/// Connections to the database. More than four only add latency.
const CONNECTIONS: usize = 4;
/// Connections that wait to be accepted. A client beyond them retries only after a second.
const BACKLOG: u32 = 4096;
/// How long requests may take after a shutdown began. The client of a long poll asks again.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

const DEFECT: &str = "this is a defect of the orchestrator; start it again, nothing is lost";

/// Events that a main reports to its user.
pub enum Event {
    /// Something that the user should mend; the server continues without it.
    Warning(String),
    /// The server is ready. `templates`: those of the folder, if one was given.
    Ready { address: SocketAddr, templates: Option<Templates> },
}

/// Runs until a signal. Everything that was started has ended when this returns. At a second signal running work is dropped; it runs
/// again at the next start.
///
/// Do not drop it while it starts: a PostgreSQL that is being started would continue to run.
pub async fn run(options: &Options, shutdown: Shutdown, tell: impl Fn(Event)) -> Result {
    let listener = listen(options.port)?;
    if let Some(url) = &options.database_url {
        return run_over(options, listener, url, shutdown, tell).await;
    }
    let postgres = PrivatePostgres::start(&options.data_dir).await?;
    let served = run_over(options, listener, postgres.url(), shutdown, tell).await;
    let stopped = postgres.stop().await;
    served.and(stopped)
}

async fn run_over(
    options: &Options,
    listener: TcpListener,
    database_url: &str,
    shutdown: Shutdown,
    tell: impl Fn(Event),
) -> Result {
    migrate(database_url).await?;
    let ended = shutdown.run(|asked| run_until(options, listener, database_url, asked, tell)).await;
    ended.unwrap_or(Ok(())).map_err(|error| without_password(&format!("{error:#}"), database_url))
}

async fn run_until(
    options: &Options,
    listener: TcpListener,
    database_url: &str,
    shutdown: CancellationToken,
    tell: impl Fn(Event),
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let held = ownership::take(database_url).await?;
    let engine = engine(options, database_url, &held)?;
    // A table that another session locks delays the start; the log names the session.
    let begin = || async {
        engine.watch_clock().await?;
        engine.take_over().await
    };
    let is_locked = |error: &StoreError| matches!(error, StoreError::TimedOut(_));
    match shutdown.run_until_cancelled(begin.retry(PAUSES).when(is_locked)).await {
        Some(begun) => begun?,
        None => return Ok(()),
    }
    let templates = match &options.templates {
        Some(dir) => Some(register_all(&engine, dir, &tell).await?),
        None => None,
    };
    tell_unserved(&engine, &tell).await?;
    let executors = tokio::select! {
        executors = start_workers(options) => executors?,
        // Dropping the future ends the workers that were started.
        () = shutdown.cancelled() => return Ok(()),
    };

    let loops_end = CancellationToken::new();
    let mut engine_loops = JoinSet::new();
    engine_loops.spawn(drain_queue(engine.clone(), loops_end.clone()));
    let taken = CancellationToken::new();
    let problems = Problems::default();
    let owner = ownership::Owner { engine: engine.clone(), problems: problems.clone() };
    engine_loops.spawn(owner.keep(held, loops_end.clone(), taken.clone()));
    let mut workers = JoinSet::new();
    for (settings, executor) in executors {
        let (source, queue) = (Arc::new(engine.steps(&settings.pool)), Arc::new(engine.queue().clone()));
        workers.spawn(tasker_worker::run(source, queue, executor, settings, shutdown.clone()));
    }
    let router = tasker_api::router(engine, tasker_api::ApiSettings { problems, ..Default::default() });
    let bounds = Bounds { connections: affordable(limits::CONNECTIONS), head: Duration::from_secs(limits::HEAD_SECONDS) };
    let server = connections::serve(listener, router, bounds, shutdown.cancelled());
    tell(Event::Ready { address, templates });
    let served = tokio::select! {
        biased;
        () = server => Ok(()),
        () = drained(&shutdown) => Ok(()),
        // Everything is dropped: the other process does the same work.
        () = taken.cancelled() => bail!("another tasker process has taken the database over; this one ends"),
        // A server without one of its loops would look healthy and do nothing.
        () = ended_by_itself(&mut engine_loops, &shutdown) => bail!("a loop of the engine ended by itself: {DEFECT}"),
        () = ended_by_itself(&mut workers, &shutdown) => bail!("the supervision of a worker ended by itself: {DEFECT}"),
    };
    shutdown.cancel();
    workers.join_all().await;
    loops_end.cancel();
    engine_loops.join_all().await;
    served
}

/// Returns when one of the tasks ends before a shutdown, which only a panic can cause.
async fn ended_by_itself<T: 'static>(tasks: &mut JoinSet<T>, shutdown: &CancellationToken) {
    while tasks.join_next().await.is_some() {
        if !shutdown.is_cancelled() {
            return;
        }
    }
    std::future::pending().await
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    bind(port).with_context(|| {
        format!("port {port} of 127.0.0.1 cannot be used; stop what listens there, or give another --port (0 takes any free one)")
    })
}

fn bind(port: u16) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    socket.listen(BACKLOG)
}

fn engine(options: &Options, database_url: &str, held: &Ownership) -> anyhow::Result<Arc<Engine<InProcess>>> {
    let queue = InProcess::default();
    let settings = EngineSettings {
        environment: options.environment.clone(),
        signing_keys: vec![fresh_key()],
        pools: options.workers.iter().map(|w| w.pool.clone()).collect(),
        revise_templates: true,
        seed: uuid::Uuid::new_v4().as_u128() as u64,
        send_lease: None,
        in_process: Some(queue.clone()),
    };
    let store = Store::owned(held, database_url, CONNECTIONS)?;
    Ok(Engine::new(store, queue, settings))
}

/// A key for this process only: its children are the only holders of tokens, and end with it.
fn fresh_key() -> SigningKey {
    let secret = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].iter().flat_map(|u| *u.as_bytes()).collect();
    SigningKey { id: "dev".into(), secret }
}

/// Returns when a shutdown began and the time of the last requests is over.
async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(LAST_REQUESTS).await;
}

/// Starts all workers concurrently. If one does not start, the others are ended, and the error names it.
async fn start_workers(options: &Options) -> anyhow::Result<Vec<(tasker_worker::WorkerSettings, Executor)>> {
    let starts = options.workers.iter().map(|WorkerCommand { pool, command }| async move {
        let usual = tasker_worker::WorkerSettings::new(pool);
        let settings = tasker_worker::WorkerSettings {
            max_concurrent_handlers: options.max_concurrent_handlers,
            ready_timeout: options.ready_timeout.unwrap_or(usual.ready_timeout),
            ..usual
        };
        let executor =
            Executor::child(command.clone(), &settings).await.with_context(|| format!("worker {pool} cannot be started"))?;
        anyhow::Ok((settings, executor))
    });
    let mut started = Vec::new();
    let mut failed = None;
    for result in futures::future::join_all(starts).await {
        match result {
            Ok(worker) => started.push(worker),
            Err(e) => failed = failed.or(Some(e)),
        }
    }
    let Some(error) = failed else { return Ok(started) };
    for (_, executor) in started {
        executor.close().await;
    }
    Err(error)
}
