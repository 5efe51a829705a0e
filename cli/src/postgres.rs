//! `tasker-ctl postgres …`: private PostgreSQL servers for tests and scripts. These commands need PostgreSQL's programs, not our server.

use std::{ffi::OsString, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus};

use anyhow::Context;
use clap::{Args, Subcommand};
use futures::FutureExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tasker_process::Shutdown;
use tasker_server::postgres::{self, Address, Setup, Stop};
use tokio::{process::Command, signal::unix::SignalKind};

use crate::{
    error::{CommandError, Exit, Result},
    output,
};

/// Tests run concurrently, each with connections of its own.
const CONNECTIONS: &str = "max_connections=300";

#[derive(Debug, Subcommand)]
pub enum PostgresCommand {
    /// Run a command with a temporary PostgreSQL, and remove it afterwards
    ///
    /// The command finds the server's URL in TASKER_TEST_DATABASE_URL; with --tls, HOST:PORT in TASKER_TEST_DATABASE_TLS and the file of the
    /// authority's certificate in TASKER_TEST_DATABASE_CA. The exit code is the command's, or 128 plus the signal that ended it.
    Run {
        /// Sync every commit to the disk, for data that matters and for measurements
        #[arg(long)]
        durable: bool,
        #[command(flatten)]
        server: ServerArgs,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Start the PostgreSQL of a folder, leave it running, and print how to connect to it as JSON
    ///
    /// Creates the data on the first start, and keeps it. Does not change a PostgreSQL that already runs.
    Start {
        /// The folder of the data
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Stop the PostgreSQL of a folder
    Stop {
        /// The folder of the data
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Remove the folder and its data too
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Also listen on a free port of 127.0.0.1, with TLS, a password, and a certificate authority of its own
    #[arg(long)]
    tls: bool,
    /// A setting of PostgreSQL. May be repeated
    #[arg(long = "setting", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

impl ServerArgs {
    fn setup(self, base: Setup) -> Setup {
        let settings = [base.settings, vec![CONNECTIONS.to_owned()], self.settings].concat();
        Setup { settings, tls: self.tls, ..base }
    }
}

pub async fn run(command: PostgresCommand) -> Result {
    match command {
        PostgresCommand::Run { durable, server, command } => {
            let setup = server.setup(if durable { Setup::default() } else { Setup::unsynced() });
            // From here on signals are queued, so that the server is removed in any case.
            let mut shutdown = Shutdown::listen().context("cannot listen to signals")?;
            let code = postgres::throw_away(&setup, async |address| supervise(&command, address, &mut shutdown).await).await??;
            // Nothing is left to drop.
            std::process::exit(code)
        }
        PostgresCommand::Start { data_dir, server } => {
            let address = postgres::start(&data_dir, &server.setup(Setup::default())).await?;
            output::print_json(&shown(&address).to_string())
        }
        PostgresCommand::Stop { data_dir, remove: true } => Ok(postgres::remove(&data_dir).await?),
        PostgresCommand::Stop { data_dir, remove: false } => Ok(postgres::stop(&data_dir, Stop::InOrder).await?),
    }
}

fn shown(Address { url, tls }: &Address) -> Value {
    let tls = tls.as_ref().map(|tls| {
        json!({"host": "127.0.0.1", "port": tls.port, "user": tls.user, "password": tls.password, "authority": tls.authority})
    });
    json!({"url": url, "tls": tls})
}

/// Runs the command and returns its exit code as a shell does.
async fn supervise(words: &[OsString], address: &Address, shutdown: &mut Shutdown) -> Result<i32> {
    if let Some(signal) = shutdown.signal().now_or_never() {
        return Ok(128 + signal.as_raw_value());
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env("TASKER_TEST_DATABASE_URL", &address.url);
    if let Some(tls) = &address.tls {
        command.env("TASKER_TEST_DATABASE_TLS", format!("127.0.0.1:{}", tls.port)).env("TASKER_TEST_DATABASE_CA", &tls.authority);
    }
    let failed = |error| CommandError::new(Exit::Error, format!("cannot run {}: {error}", words[0].display()));
    let mut child = command.spawn().map_err(failed)?;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(code_of(status.map_err(failed)?)),
            signal = shutdown.signal() => {
                // A terminal sends Ctrl-C to the command too.
                if let (true, Some(id)) = (signal != SignalKind::interrupt(), child.id()) {
                    let _ = kill(Pid::from_raw(id.cast_signed()), Signal::try_from(signal.as_raw_value()).ok());
                }
            }
        }
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
