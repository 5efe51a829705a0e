//! The options of a server.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tasker_wire::limits;
use tasker_worker::Command;

pub struct Options {
    /// The port of the REST interface on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The database. If absent, a private one in `data_dir`.
    pub database_url: Option<String>,
    pub data_dir: PathBuf,
    /// A folder of templates to register at the start.
    pub templates: Option<PathBuf>,
    pub workers: Vec<WorkerCommand>,
    /// Steps that each worker runs concurrently.
    pub max_concurrent_handlers: usize,
    /// How long a worker may take until it is ready, if not as long as by default.
    pub ready_timeout: Option<Duration>,
    /// Selects the overlays of templates.
    pub environment: String,
}

/// A worker and the command line that starts it, without a shell. Written as `NAME=COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The pool that the worker serves.
    pub pool: String,
    /// A program and its arguments; `NAME=value` words before it go into its environment.
    pub command: Command,
}

impl FromStr for WorkerCommand {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((pool, command)) = text.split_once('=') else {
            return Err("expected NAME=COMMAND, such as python='python3 worker.py'".into());
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if pool.is_empty() || pool.chars().count() > limits::NAME_CHARS || !pool.chars().all(allowed) {
            return Err(format!("the NAME must have 1 to {} of the characters A-Z a-z 0-9 _ - .", limits::NAME_CHARS));
        }
        let command = command.parse().map_err(|error| format!("worker {pool}: {error}"))?;
        Ok(Self { pool: pool.to_owned(), command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_a_name_and_a_command() {
        let worker: WorkerCommand = "python=A=1 python3 worker.py".parse().unwrap();
        assert_eq!(worker, WorkerCommand { pool: "python".into(), command: "A=1 python3 worker.py".parse().unwrap() });
    }

    #[test]
    fn a_worker_without_a_name_or_a_command_is_refused() {
        for bad in ["python3 worker.py", "=true", "a b=true", "a\u{1b}=true", "python=", "python=  ", "python=a 'b"] {
            assert!(bad.parse::<WorkerCommand>().is_err(), "{bad}");
        }
    }
}
