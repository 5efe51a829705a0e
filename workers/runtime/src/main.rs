//! `tasker-worker`: runs steps that come as lines on stdin in a supervised child process, and writes their outcomes to stdout.

mod stdio;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use tasker_worker::{Command, Executor, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs step handlers in a supervised child process.
#[derive(Parser)]
#[command(name = "tasker-worker", version)]
struct Arguments {
    /// Read steps (RunStep, one JSON document a line) from stdin and write outcomes (CompleteStep) to stdout, until stdin ends.
    #[arg(long, required = true)]
    stdio: bool,
    /// The pool it serves; shown in log lines.
    #[arg(long, default_value = "default")]
    pool: String,
    /// Steps that run at once.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_concurrent_handlers: u32,
    /// Seconds that running handlers may go on after SIGTERM.
    #[arg(long, default_value_t = 25)]
    drain_timeout: u64,
    /// The command of the worker, after `--`: a program that speaks the child protocol, as every SDK's run() does.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .init();
    match work(arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(bad_lines) => {
            eprintln!("error: {bad_lines} lines of stdin were not steps and were left out");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until stdin ends or SIGTERM comes; returns how many lines were refused.
async fn work(arguments: Arguments) -> Result<u64, Box<dyn std::error::Error>> {
    let Arguments { pool, max_concurrent_handlers, drain_timeout, command, .. } = arguments;
    let settings = Settings {
        max_concurrent_handlers: max_concurrent_handlers as usize,
        drain_timeout: Duration::from_secs(drain_timeout),
        ..Settings::new(pool)
    };
    let executor = Executor::child(Command::from_words(command)?, &settings).await?;
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    let stdin = stdio::Stdin::open(settings.max_concurrent_handlers);
    tasker_worker::run(stdin.clone(), stdio::Stdout::open().into(), executor, settings, shutdown).await;
    Ok(stdin.bad_lines())
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else { return };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    shutdown.cancel();
}
