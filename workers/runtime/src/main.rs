//! `tasker-worker`: runs steps in a supervised child process. It reads steps as lines from stdin, receives them in invocations of a
//! Lambda function, or polls the queue of a pool.

mod deployment;
mod inbox;
mod invocations;
mod lambda;
mod poll;
mod stdio;
#[cfg(test)]
mod testing;

use std::{error::Error, ops::RangeInclusive, process::ExitCode, time::Duration};

use clap::{CommandFactory, Parser, error::ErrorKind};
use deployment::Deployment;
use tasker_process::{LAST_WORDS, Shutdown, Stream, as_init, begin_logs, flush, settings};
use tasker_wire::limits;
use tasker_worker::Command;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The allowed number of concurrent steps.
const PLACES: RangeInclusive<i64> = 1..=1000;

/// The allowed seconds until a child is ready.
const READY: RangeInclusive<i64> = 1..=limits::READY_SECONDS;

/// Runs step handlers in a supervised child process.
///
/// Without --stdio and --poll it is a Lambda function, which only Lambda can start.
#[derive(Parser)]
#[command(name = "tasker-worker", version)]
struct Arguments {
    /// Read steps (RunStep, one JSON document per line) from stdin and write outcomes (CompleteStep) to stdout, until stdin ends.
    #[arg(long, conflicts_with = "poll")]
    stdio: bool,
    /// Receive steps from the pool's SQS queue, which TASKER_QUEUES and TASKER_POOL name, until SIGTERM.
    #[arg(long)]
    poll: bool,
    /// The pool to serve [default: TASKER_POOL]. With --stdio it only appears in logs [default: default].
    #[arg(long)]
    pool: Option<String>,
    /// Steps to run concurrently [default: 10, or without --stdio TASKER_MAX_CONCURRENT_HANDLERS].
    #[arg(long, value_parser = clap::value_parser!(u32).range(PLACES))]
    max_concurrent_handlers: Option<u32>,
    /// Seconds that the command may take until it is ready, 1 to 3600; one that visibly works is given ten times as long
    /// [default: 30, or TASKER_READY_TIMEOUT_SECONDS].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=limits::READY_SECONDS as u64))]
    ready_timeout: Option<u64>,
    /// Seconds that running handlers have after SIGTERM.
    #[arg(long, default_value_t = 25)]
    drain_timeout: u64,
    /// The command of the worker, after `--`: a program that speaks the child protocol, such as one that calls an SDK's run().
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    settings::forget_empty();
    let arguments = Arguments::parse();
    if !arguments.stdio && !arguments.poll && settings::path("AWS_LAMBDA_RUNTIME_API").is_none() {
        let message = "give --stdio or --poll; without either, this is a function, and AWS_LAMBDA_RUNTIME_API is not set\n";
        Arguments::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    }
    // In a container, handlers leave orphans.
    as_init().map_or_else(|| run_to_exit(arguments), ExitCode::from)
}

fn run_to_exit(arguments: Arguments) -> ExitCode {
    let runtime = Runtime::new().expect("threads can be started");
    let code = runtime
        .block_on(async { if arguments.stdio { stdio::main(arguments).await } else { main_of_deployment(arguments).await } });
    flush(LAST_WORDS);
    // Without a bound it would wait for outcomes that nobody reads.
    runtime.shutdown_timeout(LAST_WORDS);
    code
}

async fn main_of_deployment(arguments: Arguments) -> ExitCode {
    match deployed(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves the pool of a deployment, as a Lambda function or by polling.
async fn deployed(arguments: Arguments) -> Result<()> {
    begin_logs(Stream::Stdout, &[])?;
    let Arguments { poll, pool, max_concurrent_handlers, ready_timeout, drain_timeout, command, .. } = arguments;
    let mut deployment = Deployment::from_env(pool, max_concurrent_handlers, ready_timeout)?;
    deployment.settings.drain_timeout = Duration::from_secs(drain_timeout);
    let command = Command::from_words(command)?;
    if !poll {
        return lambda::serve(command, deployment).await;
    }
    until_signalled(|asked| poll::serve(command, deployment, asked)).await
}

/// The first signal cancels the token of `work`. The second one ends the process.
async fn until_signalled<T, F: Future<Output = Result<T>>>(work: impl FnOnce(CancellationToken) -> F) -> Result<T> {
    let Some(ended) = Shutdown::listen()?.run(work).await else {
        tracing::error!("a second signal ends this worker; its running steps run again");
        exit_now();
    };
    ended
}

/// Ends the process without waiting for what it does.
fn exit_now() -> ! {
    flush(LAST_WORDS);
    std::process::exit(1)
}
