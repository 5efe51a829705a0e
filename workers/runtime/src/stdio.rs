//! Reads steps from stdin and writes outcomes to stdout: one JSON document per line.

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tasker_process::{Stream, begin_logs, say};
use tasker_queue::{Delivery, Disposition, Outgoing, Queue, Receipt, SendError, SendResult, Source};
use tasker_wire::{RunStep, message};
use tasker_worker::{Command, Executor, WorkerSettings};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{Arguments, deployment, exit_now, until_signalled};

/// Runs until stdin ends or a signal. Logs go to stderr.
pub async fn main(arguments: Arguments) -> ExitCode {
    let problem = match until_signalled(|asked| work(arguments, asked)).await {
        Ok(0) => return ExitCode::SUCCESS,
        Ok(bad_lines) => format!("{bad_lines} lines of stdin were not steps and were skipped"),
        Err(error) => error.to_string(),
    };
    say(Stream::Stderr, &format!("error: {problem}"));
    ExitCode::FAILURE
}

/// Returns the number of skipped lines.
async fn work(arguments: Arguments, shutdown: CancellationToken) -> Result<u64, Box<dyn std::error::Error>> {
    begin_logs(Stream::Stderr, &[])?;
    let Arguments { pool, max_concurrent_handlers, ready_timeout, drain_timeout, command, .. } = arguments;
    let mut settings = WorkerSettings {
        drain_timeout: Duration::from_secs(drain_timeout),
        ..WorkerSettings::new(pool.unwrap_or_else(|| "default".into()))
    };
    if let Some(places) = max_concurrent_handlers {
        settings.max_concurrent_handlers = places as usize;
    }
    if let Some(timeout) = deployment::ready_timeout(ready_timeout)? {
        settings.ready_timeout = timeout;
    }
    let start = Executor::child(Command::from_words(command)?, &settings);
    let Some(executor) = shutdown.run_until_cancelled(start).await.transpose()? else { return Ok(0) };
    let stdin = Stdin::open(settings.max_concurrent_handlers);
    tasker_worker::run(stdin.clone(), Stdout.into(), executor, settings, shutdown).await;
    Ok(stdin.bad_lines.load(Ordering::Relaxed))
}

/// Steps from stdin. A line can be read only once, so there is nothing to settle.
struct Stdin {
    steps: Mutex<mpsc::Receiver<RunStep>>,
    bad_lines: Arc<AtomicU64>,
}

impl Stdin {
    /// Starts to read, at most `ahead` steps ahead of the receiver.
    fn open(ahead: usize) -> Arc<Self> {
        let (sender, steps) = mpsc::channel(ahead);
        let bad_lines = Arc::new(AtomicU64::new(0));
        let counter = bad_lines.clone();
        // A thread of its own, because a read of stdin cannot be cancelled.
        std::thread::spawn(move || read_lines(&sender, &counter));
        Arc::new(Self { steps: Mutex::new(steps), bad_lines })
    }
}

impl Source for Stdin {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        let mut taken = Vec::new();
        self.steps.lock().await.recv_many(&mut taken, max).await;
        let receipt = Receipt { id: String::new(), handle: String::new(), receives: 1 };
        taken.into_iter().map(|step| Delivery { message: Ok(step), receipt: receipt.clone() }).collect()
    }

    async fn settle(&self, _settled: Vec<(Receipt, Disposition)>) {}

    async fn extend(&self, _deliveries: &[Receipt], _time: Duration) {}
}

fn read_lines(steps: &mpsc::Sender<RunStep>, bad_lines: &AtomicU64) {
    for (number, line) in io::stdin().lock().split(b'\n').enumerate() {
        let Ok(line) = line.inspect_err(|error| tracing::error!("stdin cannot be read: {error}")) else { return };
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match read_step(&line) {
            Ok(step) => {
                if steps.blocking_send(step).is_err() {
                    return;
                }
            }
            Err(why) => {
                bad_lines.fetch_add(1, Ordering::Relaxed);
                tracing::error!(line = number + 1, "not a step: {why}");
            }
        }
    }
}

fn read_step(line: &[u8]) -> Result<RunStep, String> {
    let step: RunStep = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if !message::VERSIONS.contains(&step.v) {
        let (first, last) = (message::VERSIONS.start(), message::VERSIONS.end());
        return Err(format!("it has version {}; this program supports versions {first} to {last}", step.v));
    }
    Ok(step)
}

struct Stdout;

impl Queue for Stdout {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        let count = messages.len();
        let written = tokio::task::spawn_blocking(move || write_all(&messages)).await;
        let result = match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                // No retry can succeed. The child ends with this process.
                tracing::error!("stdout is closed; outcomes can no longer be written");
                exit_now();
            }
            result => result.map_err(|error| SendError::Refused(error.to_string())),
        };
        vec![result; count]
    }
}

fn write_all(messages: &[Outgoing]) -> io::Result<()> {
    let mut text = Vec::new();
    for outgoing in messages {
        let Outgoing::CompleteStep(complete) = outgoing else { continue };
        // A child's answer is one line, so its JSON contains no line breaks.
        serde_json::to_writer(&mut text, complete)?;
        text.push(b'\n');
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text)?;
    stdout.flush()
}
