//! The whole system in one process: the engine over a database, the HTTP interface, and a supervised process for each worker.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tasker_domain::{template, token::SigningKey};
use tasker_engine::{Engine, InProcess, RegisterError, Settings};
use tasker_queue::{Delivery, Disposition, Outgoing, Queue, Receipt, SendResult, Source};
use tasker_store::Store;
use tasker_wire::{RunStep, limits};
use tasker_worker::{Command, Executor};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    connections::{Connections, affordable},
    output::line,
    ownership,
};

/// Connections to the database. Past four only latency grows.
const CONNECTIONS: usize = 4;
/// Connections that wait to be taken up. One more, and its client tries again only after a second.
const BACKLOG: u32 = 4096;
/// How long requests may go on after a shutdown was asked for; a long poll is answered by whoever asks again.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

const DEFECT: &str = "this is a defect of the orchestrator; start it again, nothing is lost";

/// What is to be run.
pub struct Options {
    /// A migrated database.
    pub database_url: String,
    /// Every template in this folder is registered.
    pub templates: Option<PathBuf>,
    /// Pools and the commands that serve them.
    pub workers: Vec<(String, Command)>,
    /// Steps that each worker runs at once.
    pub max_concurrent_handlers: usize,
    /// Chooses the overlay of templates.
    pub environment: String,
}

/// What is up.
pub struct Up {
    /// Where the HTTP interface listens.
    pub address: SocketAddr,
    /// Templates of the folder that are registered.
    pub templates: usize,
    /// Pools that have a worker.
    pub workers: Vec<String>,
}

/// Runs until `shutdown`; calls `ready` once everything is up. Nothing it started is left when it returns.
pub async fn run(options: Options, listener: TcpListener, shutdown: CancellationToken, ready: impl FnOnce(&Up)) -> Result<()> {
    let address = listener.local_addr()?;
    let engine = engine(&options)?;
    let held = ownership::take(&options.database_url).await?;
    engine.take_over().await?;
    let mut templates = 0;
    if let Some(dir) = &options.templates {
        templates = register_all(&engine, dir, &options.workers).await?;
    }
    let executors = tokio::select! {
        executors = start_workers(&options) => executors?,
        // What was started goes with the future.
        () = shutdown.cancelled() => return Ok(()),
    };

    let loops_end = CancellationToken::new();
    let mut engine_loops = JoinSet::new();
    engine_loops.spawn({
        let (engine, end) = (engine.clone(), loops_end.clone());
        async move { engine.run(end).await }
    });
    let taken = CancellationToken::new();
    engine_loops.spawn(ownership::keep(held, options.database_url.clone(), engine.clone(), loops_end.clone(), taken.clone()));
    let mut workers = JoinSet::new();
    for (settings, executor) in executors {
        let source = Arc::new(PoolOf { engine: engine.clone(), pool: settings.pool.clone() });
        workers.spawn(tasker_worker::run(source, Arc::new(QueueOf(engine.clone())), executor, settings, shutdown.clone()));
    }
    let server = serve(listener, engine, shutdown.clone());
    ready(&Up { address, templates, workers: options.workers.into_iter().map(|(pool, _)| pool).collect() });
    let served = tokio::select! {
        biased;
        served = server => served,
        () = drained(&shutdown) => Ok(()),
        // Everything is dropped where it stands: it would be done twice.
        () = taken.cancelled() => bail!("another tasker process has taken the database over; this one ends"),
        // Half a system would look alive and do nothing.
        () = ended_by_itself(&mut engine_loops, &shutdown) => bail!("a loop of the engine ended by itself: {DEFECT}"),
        () = ended_by_itself(&mut workers, &shutdown) => bail!("the supervision of a worker ended by itself: {DEFECT}"),
    };
    shutdown.cancel();
    workers.join_all().await;
    loops_end.cancel();
    engine_loops.join_all().await;
    served
}

/// Returns when one of the tasks ends though nobody asked for it, which only a panic can do.
async fn ended_by_itself<T: 'static>(tasks: &mut JoinSet<T>, shutdown: &CancellationToken) {
    while tasks.join_next().await.is_some() {
        if !shutdown.is_cancelled() {
            return;
        }
    }
    std::future::pending().await
}

/// Listens on the loopback address, before anything else is started.
pub async fn listen(port: u16) -> Result<TcpListener> {
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

fn engine(options: &Options) -> Result<Arc<Engine<InProcess>>> {
    let settings = Settings {
        environment: options.environment.clone(),
        signing_keys: vec![fresh_key()],
        pools: options.workers.iter().map(|(pool, _)| pool.clone()).collect(),
        revise_templates: true,
        seed: uuid::Uuid::new_v4().as_u128() as u64,
    };
    // The ownership holds a lock of its session, so what we are given are sessions of the server.
    let store = Store::direct(&options.database_url, CONNECTIONS)?;
    Ok(Engine::new(store, InProcess::default(), settings))
}

/// A key of this process alone: whoever holds one of its tokens is a child of it, and ends with it.
fn fresh_key() -> SigningKey {
    let secret = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].iter().flat_map(|u| *u.as_bytes()).collect();
    SigningKey { id: "dev".into(), secret }
}

async fn serve(listener: TcpListener, engine: Arc<Engine<InProcess>>, shutdown: CancellationToken) -> Result<()> {
    let router = tasker_api::router(engine, tasker_api::Settings::default());
    let connections = Connections::of(listener, affordable(limits::CONNECTIONS));
    axum::serve(connections, router).with_graceful_shutdown(shutdown.cancelled_owned()).await.context("the HTTP server failed")
}

/// Over once a shutdown was asked for and the last requests had their time.
async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(LAST_REQUESTS).await;
}

/// Starts every worker, all at once. One that is of no use is named, and the others are ended again.
async fn start_workers(options: &Options) -> Result<Vec<(tasker_worker::Settings, Executor)>> {
    let starts = options.workers.iter().map(|(pool, command)| async move {
        let settings = tasker_worker::Settings {
            max_concurrent_handlers: options.max_concurrent_handlers,
            ..tasker_worker::Settings::new(pool)
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

/// Registers every template of a folder. A bad one is reported and the others go on. Answers how many are registered.
async fn register_all(engine: &Arc<Engine<InProcess>>, dir: &Path, workers: &[(String, Command)]) -> Result<usize> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("the templates folder {} cannot be read", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.collect::<std::io::Result<Vec<_>>>()?.into_iter().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    files.sort();
    let mut registered = 0;
    for file in &files {
        let shown = file.display();
        let yaml = match std::fs::read_to_string(file) {
            Ok(yaml) => yaml,
            Err(e) => {
                eprintln!("{shown}: cannot be read: {e}");
                continue;
            }
        };
        match engine.register_template(&yaml).await {
            Ok(_) => {
                registered += 1;
                warn_of_unserved(file, &yaml, workers);
            }
            Err(RegisterError::Store(e)) => bail!(e),
            Err(RegisterError::Invalid(faults)) => {
                for fault in &faults.0 {
                    eprintln!("{shown}: {}", line(&fault.to_string()));
                }
            }
            Err(e) => eprintln!("{shown}: {}", line(&e.to_string())),
        }
    }
    if registered < files.len() {
        eprintln!("{} of {} templates were not registered; mend them and start again", files.len() - registered, files.len());
    }
    Ok(registered)
}

/// A step of a pool that nobody serves would wait for ever without a word.
fn warn_of_unserved(file: &Path, yaml: &str, workers: &[(String, Command)]) {
    let Ok((template, _)) = template::parse(yaml) else { return };
    let unserved: HashSet<&str> = template
        .steps
        .iter()
        .filter_map(|s| s.worker.as_deref())
        .filter(|w| !workers.iter().any(|(pool, _)| pool == w))
        .collect();
    for pool in unserved {
        let pool = line(pool);
        eprintln!("{}: steps of worker {pool} will wait, for no --worker {pool}=COMMAND is given", file.display());
    }
}

/// A pool of the engine's queue, as a worker sees it.
struct PoolOf {
    engine: Arc<Engine<InProcess>>,
    pool: String,
}

impl Source for PoolOf {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        let receipt = Receipt { id: String::new(), handle: String::new(), receives: 1 };
        let delivery = |step| Delivery { message: Ok(step), receives: 1, receipt: receipt.clone() };
        self.engine.receive(&self.pool, max).await.into_iter().map(delivery).collect()
    }

    async fn settle(&self, _settled: Vec<(Receipt, Disposition)>) {}

    async fn extend(&self, _deliveries: &[Receipt], _time: Duration) {}
}

/// The engine's queue, as a worker answers to it.
struct QueueOf(Arc<Engine<InProcess>>);

impl Queue for QueueOf {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        self.0.queue().send(messages).await
    }

    fn send_lease(&self) -> Option<Duration> {
        self.0.queue().send_lease()
    }

    fn is_full(&self) -> bool {
        self.0.queue().is_full()
    }
}
