//! `tasker-ctl dev`: a main over the server, with a private PostgreSQL where no other is named.

use std::{collections::HashSet, path::PathBuf};

use clap::Args;
use tasker_server::{Event, Options, WorkerCommand};

use crate::{
    ends::Ends,
    failure::{Failure, Result},
    logs, output,
};

#[derive(Debug, Args)]
pub struct DevArgs {
    /// The port of the API on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// A database to use instead of a private one: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
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
    /// The environment whose overlay of a template applies
    #[arg(long, env = "TASKER_ENV", default_value = "development", value_name = "NAME", value_parser = environment)]
    environment: String,
}

fn environment(name: &str) -> std::result::Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err("an environment has 1 to 64 of the characters A-Z a-z 0-9 _ -".into());
    }
    Ok(name.to_owned())
}

/// Runs until a signal asks for the end; a second one ends it at once.
pub async fn run(args: DevArgs) -> Result {
    refuse_twins(&args.workers)?;
    logs::begin();
    // From here on a signal waits until it is asked for: a start that is cut short would leave a server behind.
    let mut ends = Ends::new()?;
    let pools: Vec<_> = args.workers.iter().map(|worker| worker.pool.clone()).collect();
    let options = Options {
        port: args.port,
        // An empty DATABASE_URL is how some shells and files unset it.
        database_url: args.database_url.filter(|url| !url.is_empty()),
        data_dir: args.data_dir,
        templates: args.templates,
        workers: args.workers,
        max_concurrent_handlers: args.max_concurrent_handlers.into(),
        environment: args.environment,
    };
    let asked_to_end = async || {
        ends.next().await;
    };
    Ok(tasker_server::run(&options, asked_to_end, |event| tell(event, &pools)).await?)
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
        Some(twin) => Err(Failure::usage(format!("--worker {} is given twice; give each worker a name of its own", twin.pool))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn two_workers_of_one_name_are_refused() {
        let worker: WorkerCommand = "a=true".parse().unwrap();
        let failure = refuse_twins(&[worker.clone(), worker]).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
