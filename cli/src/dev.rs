//! `tasker-ctl dev`: a main over the server, with a private PostgreSQL where no other is named.

use std::{collections::HashSet, path::PathBuf};

use clap::Args;
use tasker_process::{Shutdown, Stream, begin_logs, settings};
use tasker_server::{Event, Options, WorkerCommand};

use crate::{
    db::database_url,
    error::{CommandError, Exit, Result},
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
    /// Where the private database is kept
    #[arg(long, default_value = ".tasker", value_name = "DIR")]
    data_dir: PathBuf,
    /// A folder of templates to register at the start
    #[arg(long, value_name = "DIR")]
    templates: Option<PathBuf>,
    /// A worker to start: it runs the steps whose `worker` is NAME; a single one runs all others too. May be given several times
    #[arg(long = "worker", value_name = "NAME=COMMAND")]
    workers: Vec<WorkerCommand>,
    /// How many steps each worker runs at once
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_concurrent_handlers: u16,
    /// The environment whose overlay of a template applies [env: TASKER_ENV] [default: development]
    #[arg(long, value_name = "NAME", value_parser = settings::environment)]
    environment: Option<String>,
}

/// Runs until a signal asks for the end; a second one ends it at once.
pub async fn run(args: DevArgs) -> Result {
    refuse_twins(&args.workers)?;
    let environment = match args.environment {
        None => settings::read("TASKER_ENV", settings::environment)?,
        given => given,
    };
    let database_url = database_url(args.database_url.as_deref())?;
    begin_logs(Stream::Stdout, &[]);
    // From here on a signal waits until it is asked for: a start that is cut short would leave a server behind.
    let shutdown = listen_to_signals()?;
    let pools: Vec<_> = args.workers.iter().map(|worker| worker.pool.clone()).collect();
    let options = Options {
        port: args.port,
        database_url,
        data_dir: args.data_dir,
        templates: args.templates,
        workers: args.workers,
        max_concurrent_handlers: args.max_concurrent_handlers.into(),
        environment: environment.unwrap_or_else(|| "development".to_owned()),
    };
    Ok(tasker_server::run(&options, shutdown, |event| tell(event, &pools)).await?)
}

/// From now on a signal waits until it is asked for.
pub fn listen_to_signals() -> Result<Shutdown> {
    Shutdown::listen().map_err(|error| CommandError::new(Exit::Error, format!("cannot listen to signals: {error}")))
}

fn tell(event: Event, pools: &[String]) {
    match event {
        Event::Warning(text) => eprintln!("{}", output::line(&text)),
        Event::Ready { address, templates } => {
            let workers = if pools.is_empty() { "none".to_owned() } else { pools.join(", ") };
            // Nobody may be reading; the system runs all the same.
            let _ = output::print(&format!("ready: http://{address} · {templates} templates · workers: {workers}"));
        }
    }
}

fn refuse_twins(workers: &[WorkerCommand]) -> Result {
    let mut names = HashSet::new();
    match workers.iter().find(|worker| !names.insert(&worker.pool)) {
        Some(twin) => {
            Err(CommandError::usage(format!("--worker {} is given twice; give each worker a name of its own", twin.pool)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn two_workers_of_one_name_are_refused() {
        let worker: WorkerCommand = "a=true".parse().unwrap();
        let failure = refuse_twins(&[worker.clone(), worker]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
