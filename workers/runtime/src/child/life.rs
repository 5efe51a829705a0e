//! One life of a child process: from its start, through its first line, to its end.

use std::{io, process::ExitStatus, time::Duration};

use tokio::{io::AsyncWriteExt, net::unix::pipe, task::JoinHandle};

use super::{
    Command,
    lines::{Lines, Next},
    logs::{self, LastLines},
    protocol::{self, Ready},
    spawn::{self, Process, Spawned},
};
use crate::Settings;

/// How long a child may take to go when its pipe was closed, and its last log lines to arrive when it is gone.
const GRACE: Duration = Duration::from_secs(1);

/// Why a child is of no use: one sentence for whoever wrote the command.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such program.
    #[error("worker {pool}: the program of `{command}` was not found; check its spelling, give its full path or install it")]
    NotFound {
        /// The pool it was to serve.
        pool: String,
        /// The command line.
        command: String,
    },
    /// The system refused to start it.
    #[error("worker {pool}: `{command}` cannot be started: {error}")]
    Refused {
        /// The pool it was to serve.
        pool: String,
        /// The command line.
        command: String,
        /// The system's reason.
        error: io::Error,
    },
    /// It was started and did not become ready.
    #[error("worker {pool}: `{command}` {problem}{}", last_words(.stderr))]
    NotReady {
        /// The pool it was to serve.
        pool: String,
        /// The command line.
        command: String,
        /// What it did instead, with the remedy.
        problem: String,
        /// Its last lines on stderr.
        stderr: Vec<String>,
    },
}

fn last_words(stderr: &[String]) -> String {
    if stderr.is_empty() { String::new() } else { format!("; it wrote: {}", stderr.join(" | ")) }
}

/// A child that is ready for steps.
pub(crate) struct Life {
    pub(super) process: Process,
    pub(super) lines: Lines,
    pub(super) outgoing: Outgoing,
    pub(crate) handlers: Vec<String>,
    last_lines: LastLines,
    logs: [JoinHandle<()>; 2],
}

impl Life {
    /// Starts the command and waits for its first line.
    pub(crate) async fn begin(command: &Command, settings: &Settings) -> Result<Self, StartError> {
        let spawned = spawn::spawn(command).await.map_err(|error| refused(command, settings, error))?;
        let mut life = Self::of(spawned, settings);
        match life.wait_until_ready(settings).await {
            Ok(ready) => {
                let pid = life.process.pid;
                tracing::info!(
                    pool = settings.pool,
                    pid,
                    sdk = ready.sdk,
                    version = ready.version,
                    handlers = ready.handlers.len(),
                    "worker ready"
                );
                life.handlers = ready.handlers;
                Ok(life)
            }
            Err(problem) => {
                let stderr = life.end().await;
                Err(StartError::NotReady { pool: settings.pool.clone(), command: command.to_string(), problem, stderr })
            }
        }
    }

    fn of(spawned: Spawned, settings: &Settings) -> Self {
        let Spawned { process, to_child, from_child, stdout, stderr } = spawned;
        let last_lines = LastLines::default();
        let source = logs::Source { pool: settings.pool.clone(), pid: process.pid, stream: "stdout", last: None };
        let logs = [
            tokio::spawn(logs::forward(stdout, source.clone())),
            tokio::spawn(logs::forward(stderr, logs::Source { stream: "stderr", last: Some(last_lines.clone()), ..source })),
        ];
        let outgoing = Outgoing { pipe: to_child, bytes: Vec::new(), sent: 0 };
        Self { process, lines: Lines::new(from_child), outgoing, handlers: Vec::new(), last_lines, logs }
    }

    async fn wait_until_ready(&mut self, settings: &Settings) -> Result<Ready, String> {
        let line = tokio::select! {
            line = first_line(&mut self.lines) => line,
            status = self.process.wait() => return Err(before_ready(status.ok())),
            () = tokio::time::sleep(settings.ready_timeout) => {
                let seconds = settings.ready_timeout.as_secs_f32();
                return Err(format!("did not say within {seconds} s that it is ready; does it call its SDK's run()?"));
            }
        };
        let Some(line) = line else {
            return Err(before_ready(self.process.ended_within(GRACE).await));
        };
        let Some(ready) = protocol::read_ready(&line) else {
            return Err(format!("did not begin with its ready line but with `{}`; is it a worker?", protocol::excerpt(&line)));
        };
        if ready.protocol != protocol::PROTOCOL {
            let (theirs, ours) = (ready.protocol, protocol::PROTOCOL);
            return Err(format!(
                "speaks version {theirs} of the worker protocol and this program version {ours}; update the older one"
            ));
        }
        Ok(ready)
    }

    /// How the process ended by itself, or that it had to be killed because it had closed its pipes.
    pub(super) async fn cause_of_death(&mut self) -> String {
        match self.process.ended_within(GRACE).await {
            Some(status) => describe(status),
            None => "it closed its pipes and was killed".into(),
        }
    }

    /// Asks the child to go by closing its pipe, and kills what is left soon after. Returns its last lines on stderr.
    pub(super) async fn end_gently(self) -> Vec<String> {
        let Self { mut process, outgoing, last_lines, logs, lines, .. } = self;
        drop(outgoing);
        process.ended_within(GRACE).await;
        drop(lines);
        buried(process, last_lines, logs).await
    }

    /// Kills the child. Returns its last lines on stderr.
    pub(super) async fn end(self) -> Vec<String> {
        let Self { process, last_lines, logs, .. } = self;
        buried(process, last_lines, logs).await
    }
}

async fn buried(mut process: Process, last_lines: LastLines, mut logs: [JoinHandle<()>; 2]) -> Vec<String> {
    process.kill();
    process.ended_within(GRACE).await;
    // A process that left the group may hold these open; then its lines are forwarded no more.
    for log in &mut logs {
        if tokio::time::timeout(GRACE, &mut *log).await.is_err() {
            log.abort();
        }
    }
    last_lines.get()
}

async fn first_line(lines: &mut Lines) -> Option<Vec<u8>> {
    loop {
        match lines.next() {
            Next::Line(line) | Next::TooLong(line) => return Some(line.to_vec()),
            Next::Partial => {}
        }
        if lines.fill().await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

fn refused(command: &Command, settings: &Settings, error: io::Error) -> StartError {
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

/// Bytes on their way to the child. A child that does not read keeps at most the steps that it was given waiting here.
pub(super) struct Outgoing {
    pipe: pipe::Sender,
    pub bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes some of the bytes, waiting until there is room for any. Cancel-safe.
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
