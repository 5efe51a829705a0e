//! The life cycle of a child process: start, ready line, end.

use std::{
    io,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tasker_wire::child::{PROTOCOL, Ready};
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    Command,
    lines::{Lines, Next},
    logs::{self, LastLines},
    protocol,
    spawn::{self, Process},
    startup::{Look, Startup, Work},
};
use crate::WorkerSettings;

/// How long a child may take to end after its pipe is closed, and its last log lines to arrive after it ended.
const GRACE: Duration = Duration::from_secs(1);

/// The command does not start a worker. Displays as one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("worker {pool}: the program of `{command}` was not found; check its spelling, give its full path or install it")]
    NotFound { pool: String, command: String },
    /// The system could not start the program.
    #[error("worker {pool}: `{command}` cannot be started: {error}")]
    Refused { pool: String, command: String, error: io::Error },
    /// The program started, but did not become ready.
    #[error("worker {pool}: `{command}` {problem}{}", last_words(.stderr))]
    NotReady {
        pool: String,
        command: String,
        /// What the program did instead, with the remedy.
        problem: String,
        /// The last lines on stderr.
        stderr: Vec<String>,
    },
}

fn last_words(stderr: &[String]) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it wrote: {}", stderr.join(" | ")) }
}

/// A child process that is ready for steps.
pub(crate) struct ChildProcess {
    pub(super) process: Process,
    pub(super) lines: Lines,
    pub(super) input: Input,
    pub(crate) handlers: Vec<String>,
    /// The bytes that it wrote to stdout and stderr.
    output: Arc<AtomicU64>,
    last_lines: LastLines,
    logs: [JoinHandle<()>; 2],
}

impl ChildProcess {
    /// Starts the command and waits for its ready line.
    pub(crate) async fn start(command: &Command, settings: &WorkerSettings) -> Result<Self, StartError> {
        let (process, to_child, from_child) = spawn::spawn(command).await.map_err(|error| refused(command, settings, error))?;
        let mut child = Self::new(process, to_child, from_child, settings);
        match child.wait_until_ready(settings).await {
            Ok(Ready { sdk, version, handlers, .. }) => {
                let (pool, pid) = (&settings.pool, child.process.pid);
                tracing::info!(pool, pid, sdk, version, handlers = handlers.len(), "worker ready");
                child.handlers = handlers;
                Ok(child)
            }
            Err(problem) => {
                let stderr = child.kill().await;
                Err(StartError::NotReady { pool: settings.pool.clone(), command: command.to_string(), problem, stderr })
            }
        }
    }

    fn new(mut process: Process, to_child: pipe::Sender, from_child: pipe::Receiver, settings: &WorkerSettings) -> Self {
        let (stdout, stderr) = process.take_output();
        let (last_lines, output) = (LastLines::default(), Arc::<AtomicU64>::default());
        let read = output.clone();
        let source = logs::LogSource { pool: settings.pool.clone(), pid: process.pid, stream: "stdout", last: None, read };
        let logs = [
            tokio::spawn(logs::forward(stdout, source.clone())),
            tokio::spawn(logs::forward(stderr, logs::LogSource { stream: "stderr", last: Some(last_lines.clone()), ..source })),
        ];
        let input = Input { pipe: to_child, bytes: Vec::new(), sent: 0 };
        Self { process, lines: Lines::new(from_child), input, handlers: Vec::new(), output, last_lines, logs }
    }

    async fn wait_until_ready(&mut self, settings: &WorkerSettings) -> Result<Ready, String> {
        let mut startup = Startup::begin(settings.ready_timeout, Instant::now());
        let line = loop {
            if let Next::Line(line) | Next::TooLong(line) = self.lines.next() {
                break Some(line.to_vec());
            }
            let now = Instant::now();
            match startup.look(now, || Work { cpu: self.process.cpu_time(), output: self.output.load(Ordering::Relaxed) }) {
                Look::Wait => {}
                Look::Tell => {
                    let (pool, pid, seconds) = (&settings.pool, self.process.pid, startup.seconds(now));
                    tracing::info!(pool, pid, seconds, "waiting until the worker is ready; steps wait");
                }
                Look::GiveUp(problem) => return Err(problem),
            }
            tokio::select! {
                read = self.lines.fill() => if read.unwrap_or(0) == 0 {
                    break None;
                },
                status = self.process.wait() => return Err(before_ready(status.ok())),
                () = sleep_until(startup.next_look()) => self.lines.fill_now(),
            }
        };
        let Some(line) = line else {
            return Err(before_ready(self.process.ended_within(GRACE).await));
        };
        let Some(ready) = protocol::read_ready(&line) else {
            return Err(format!("wrote `{}` instead of its ready line; is it a worker?", protocol::excerpt(&line)));
        };
        if ready.protocol != PROTOCOL {
            let (theirs, ours) = (ready.protocol, PROTOCOL);
            return Err(format!(
                "speaks version {theirs} of the worker protocol, and this program version {ours}; update the older one"
            ));
        }
        Ok(ready)
    }

    /// How the process ended, or that it was killed because it had closed its pipes.
    pub(super) async fn cause_of_death(&mut self) -> String {
        match self.process.ended_within(GRACE).await {
            Some(status) => describe(status),
            None => "it closed its pipes and was killed".into(),
        }
    }

    /// Closes the child's pipe, so that it ends, and kills what is left after a grace period.
    pub(super) async fn stop(mut self) {
        drop(self.input);
        self.process.ended_within(GRACE).await;
        drop(self.lines);
        reap(self.process, self.last_lines, self.logs).await;
    }

    /// Kills the child and waits until it has ended. What it wrote can still be read.
    pub(super) async fn end(&mut self) {
        self.process.kill();
        self.process.ended_within(GRACE).await;
    }

    /// Kills the child and returns its last lines on stderr.
    pub(super) async fn kill(self) -> Vec<String> {
        reap(self.process, self.last_lines, self.logs).await
    }
}

async fn reap(mut process: Process, last_lines: LastLines, mut logs: [JoinHandle<()>; 2]) -> Vec<String> {
    process.kill();
    process.ended_within(GRACE).await;
    // A process that left the group may hold these open; its lines are no longer forwarded.
    for log in &mut logs {
        if tokio::time::timeout(GRACE, &mut *log).await.is_err() {
            log.abort();
        }
    }
    last_lines.get()
}

fn refused(command: &Command, settings: &WorkerSettings, error: io::Error) -> StartError {
    let (pool, command) = (settings.pool.clone(), command.to_string());
    match error.kind() {
        io::ErrorKind::NotFound => StartError::NotFound { pool, command },
        _ => StartError::Refused { pool, command, error },
    }
}

fn before_ready(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) if status.success() => "ended before it was ready, without an error; does it call its SDK's run()?".into(),
        Some(status) => format!("ended before it was ready: {}; run the command by hand to see why", describe(status)),
        None => "closed its pipes before it was ready; does it call its SDK's run()?".into(),
    }
}

/// An exit status in words.
pub(super) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, Some(signal)) => {
            let name = nix::sys::signal::Signal::try_from(signal).map_or("unknown", nix::sys::signal::Signal::as_str);
            format!("it was killed by signal {signal} ({name})")
        }
        (None, None) => "it ended".into(),
    }
}

/// Bytes to write to the child. If the child does not read, they are at most the steps that it was sent.
pub(super) struct Input {
    pipe: pipe::Sender,
    pub bytes: Vec<u8>,
    sent: usize,
}

impl Input {
    /// Waits until the pipe takes some of the bytes. Cancel-safe.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.sent += self.pipe.write(&self.bytes[self.sent..]).await?;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(1024 * 1024);
            self.sent = 0;
        }
        Ok(())
    }
}
