//! `tasker-ctl dev`: the whole system in one process, with a private PostgreSQL where no other is named.

use std::{collections::HashSet, path::PathBuf, str::FromStr};

use clap::Args;
use tasker_process::{Shutdown, Stream, begin_logs, settings};
use tasker_wire::limits;
use tasker_worker::Command;
use tokio::net::TcpListener;

use crate::{
    data_dir::DataDir,
    db::{database_url, without_password},
    failure::{Exit, Failure, Result},
    output,
    postgres::PrivatePostgres,
    system::{self, Options},
};

/// What to run.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// The port of the API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// A database to use instead of a private one: postgres://USER:PASSWORD@HOST:PORT/DATABASE [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Where the private database is kept
    #[arg(long, default_value = ".tasker", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// A folder of templates to register at the start
    #[arg(long, value_name = "DIR")]
    pub templates: Option<PathBuf>,
    /// A worker to start: it runs the steps whose `worker` is NAME; a single one runs all others too. May be given several times
    #[arg(long = "worker", value_name = "NAME=COMMAND")]
    pub workers: Vec<WorkerCommand>,
    /// How many steps each worker runs at once
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub max_concurrent_handlers: u16,
    /// The environment whose overlay of a template applies [env: TASKER_ENV] [default: development]
    #[arg(long, value_name = "NAME", value_parser = settings::environment)]
    pub environment: Option<String>,
}

/// A worker and the command line that starts it, without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The pool of steps that it runs.
    pub name: String,
    /// A program and its arguments; `NAME=value` words before it go into its environment.
    pub command: Command,
}

impl FromStr for WorkerCommand {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let Some((name, command)) = text.split_once('=') else {
            return Err("expected NAME=COMMAND, such as python='python3 worker.py'".into());
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.chars().count() > limits::NAME_CHARS || !name.chars().all(allowed) {
            return Err(format!("the NAME must have 1 to {} of the characters A-Z a-z 0-9 _ - .", limits::NAME_CHARS));
        }
        let command = command.parse().map_err(|error| format!("worker {name}: {error}"))?;
        Ok(Self { name: name.to_owned(), command })
    }
}

/// Where the data is, and what must be kept and ended for it.
enum Database {
    Given(String),
    Private(PrivatePostgres, DataDir),
}

impl Database {
    async fn open(args: &DevArgs) -> Result<Self> {
        if let Some(url) = database_url(args.database_url.as_deref())? {
            return Ok(Self::Given(url));
        }
        let data = DataDir::open(&args.data_dir)?;
        Ok(Self::Private(PrivatePostgres::start(&data).await?, data))
    }

    fn url(&self) -> &str {
        match self {
            Self::Given(url) => url,
            Self::Private(postgres, _) => postgres.url(),
        }
    }

    /// Ends what we started. The data dir is unlocked last.
    async fn close(self) -> Result {
        if let Self::Private(postgres, _data) = self {
            postgres.stop().await?;
        }
        Ok(())
    }
}

/// Runs until a signal asks for the end.
pub async fn run(args: &DevArgs) -> Result {
    refuse_twins(&args.workers)?;
    let environment = match &args.environment {
        None => settings::read("TASKER_ENV", settings::environment)?,
        given => given.clone(),
    };
    begin_logs(Stream::Stdout, &[]);
    // From here on a signal waits until it is asked for: a start that is cut short would leave a server behind.
    let shutdown = Shutdown::listen().map_err(|error| Failure::new(Exit::Error, format!("cannot listen to signals: {error}")))?;
    let listener = system::listen(args.port).await?;
    let database = Database::open(args).await?;
    let served = serve(args, environment, listener, database.url(), shutdown).await;
    let closed = database.close().await;
    served.and(closed)
}

async fn serve(
    args: &DevArgs,
    environment: Option<String>,
    listener: TcpListener,
    database_url: &str,
    shutdown: Shutdown,
) -> Result {
    let migrated = tasker_store::migrate(database_url).await;
    migrated.map_err(|error| Failure::new(Exit::Error, without_password(&error.to_string(), database_url)))?;
    let options = Options {
        database_url: database_url.to_owned(),
        templates: args.templates.clone(),
        workers: args.workers.iter().map(|w| (w.name.clone(), w.command.clone())).collect(),
        max_concurrent_handlers: args.max_concurrent_handlers.into(),
        environment: environment.unwrap_or_else(|| "development".to_owned()),
    };
    // At a second signal what still runs is dropped, and runs again at the next start.
    let ended = shutdown.run(|asked| system::run(options, listener, asked, ready)).await.unwrap_or(Ok(()));
    ended.map_err(|error| Failure::new(Exit::Error, without_password(&format!("{error:#}"), database_url)))
}

/// The one line that says that everything is up.
fn ready(up: &system::Up) {
    let workers = if up.workers.is_empty() { "none".to_owned() } else { up.workers.join(", ") };
    let line = format!("ready: http://{} · {} templates · workers: {workers}", up.address, up.templates);
    // Nobody may be reading; the system runs all the same.
    let _ = output::print(&line);
}

fn refuse_twins(workers: &[WorkerCommand]) -> Result {
    let mut names = HashSet::new();
    match workers.iter().find(|worker| !names.insert(&worker.name)) {
        Some(twin) => Err(Failure::usage(format!("--worker {} is given twice; give each worker a name of its own", twin.name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_name_and_a_command() {
        let worker: WorkerCommand = "python=A=1 python3 worker.py".parse().unwrap();
        assert_eq!(worker, WorkerCommand { name: "python".into(), command: "A=1 python3 worker.py".parse().unwrap() });
    }

    #[test]
    fn a_worker_without_a_name_or_a_command_is_refused() {
        for bad in ["python3 worker.py", "=true", "a b=true", "a\u{1b}=true", "python=", "python=  ", "python=a 'b"] {
            assert!(bad.parse::<WorkerCommand>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_workers_of_one_name_are_refused() {
        let worker: WorkerCommand = "a=true".parse().unwrap();
        let failure = refuse_twins(&[worker.clone(), worker]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
