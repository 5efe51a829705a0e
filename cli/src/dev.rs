//! `tasker-ctl dev`: runs the server, with a private PostgreSQL unless another database is given.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use tasker_process::{Shutdown, Stream, begin_logs, say, settings};
use tasker_server::{Event, Options, Templates, WorkerCommand};
use tasker_wire::limits;

use crate::{
    db::database_url,
    error::{CommandError, Result},
    output,
};

#[derive(Debug, Args)]
pub struct DevArgs {
    /// The port of the API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A database to use instead of a private one: postgres://USER:PASSWORD@HOST:PORT/DATABASE [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// The folder of the private database
    #[arg(long, default_value = ".tasker", value_name = "DIR")]
    data_dir: PathBuf,
    /// A folder of templates to register at startup, with its folders
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// A worker to start: it runs the steps whose `worker` is NAME. If it is the only worker, it runs all other steps too. May be repeated
    #[arg(long = "worker", value_name = "NAME=COMMAND")]
    workers: Vec<WorkerCommand>,
    /// How many steps each worker runs concurrently
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_concurrent_handlers: u16,
    /// How many seconds a worker may take until it is ready. One that visibly works is given ten times as long [env:
    /// TASKER_READY_TIMEOUT_SECONDS] [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=limits::READY_SECONDS as u64))]
    ready_timeout: Option<u64>,
    /// The environment, which selects the overlays of templates [env: TASKER_ENV] [default: development]
    #[arg(long, value_name = "NAME", value_parser = settings::environment)]
    environment: Option<String>,
}

/// Runs until a signal. A second one ends it immediately.
pub async fn run(args: DevArgs) -> Result {
    refuse_duplicates(&args.workers)?;
    let environment = match args.environment {
        None => settings::read("TASKER_ENV", settings::environment)?,
        given => given,
    };
    let ready_timeout = match args.ready_timeout {
        None => {
            let what = "the seconds until a worker must be ready";
            settings::number("TASKER_READY_TIMEOUT_SECONDS", what, 1..=limits::READY_SECONDS)?
        }
        given => given,
    };
    let database_url = database_url(args.database_url.as_deref())?;
    begin_logs(Stream::Stdout, &[])?;
    // From here on signals are queued: an interrupted start would leave a database server behind.
    let shutdown = Shutdown::listen().context("cannot listen to signals")?;
    let pools: Vec<_> = args.workers.iter().map(|worker| worker.pool.clone()).collect();
    let options = Options {
        port: args.port,
        database_url,
        data_dir: args.data_dir,
        templates: args.templates,
        workers: args.workers,
        max_concurrent_handlers: args.max_concurrent_handlers.into(),
        ready_timeout: ready_timeout.map(Duration::from_secs),
        environment: environment.unwrap_or_else(|| "development".to_owned()),
    };
    Ok(tasker_server::run(&options, shutdown, |event| tell(event, &pools)).await?)
}

/// Never waits for a reader: stdout and stderr may be closed or stuck, and the server runs all the same.
fn tell(event: Event, pools: &[String]) {
    match event {
        Event::Warning(text) => say(Stream::Stderr, &output::line(&text)),
        Event::Ready { address, templates } => {
            let templates = match templates {
                Some(Templates { files, registered }) => {
                    format!("{registered} templates of {}", output::counted(files, "file"))
                }
                None => "no folder of templates".to_owned(),
            };
            let workers = if pools.is_empty() { "none".to_owned() } else { pools.join(", ") };
            let ready = format!("ready: http://{address} · {templates} · workers: {workers}");
            say(Stream::Stdout, &output::line(&ready));
        }
    }
}

fn refuse_duplicates(workers: &[WorkerCommand]) -> Result {
    let mut names = HashSet::new();
    let Some(duplicate) = workers.iter().find(|worker| !names.insert(&worker.pool)) else { return Ok(()) };
    Err(CommandError::usage(format!("--worker {} is given twice; give each worker a name of its own", duplicate.pool)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn two_workers_of_one_name_are_refused() {
        let worker: WorkerCommand = "a=true".parse().unwrap();
        let failure = refuse_duplicates(&[worker.clone(), worker]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
