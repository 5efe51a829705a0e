//! The program as a process, with nothing in its environment but what a deployment sets.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

use super::Aws;
use crate::common::{python, until};

pub struct Program {
    process: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    reading: JoinHandle<()>,
}

impl Program {
    /// As a function of Lambda.
    pub fn function(aws: &Aws) -> Self {
        Self::with(aws, &[], &[])
    }

    /// Polling, with these flags.
    pub fn polling(aws: &Aws, flags: &[&str]) -> Self {
        Self::with(aws, &[&["--poll"], flags].concat(), &[])
    }

    /// With these flags and further settings. An empty setting counts as unset.
    pub fn with(aws: &Aws, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::of(python("steps.py").split(' '), aws, flags, settings)
    }

    /// As a function whose child a line of shell starts.
    pub fn shell(aws: &Aws, line: &str) -> Self {
        Self::of(["sh", "-c", line], aws, &[], &[])
    }

    fn of<'a>(child: impl IntoIterator<Item = &'a str>, aws: &Aws, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let address = aws.address.to_string();
        let endpoint = format!("http://{address}");
        let queues = format!("{endpoint}/123456789012/t-");
        let usual = [
            ("PATH", std::env::var("PATH").unwrap().as_str()),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hidden"),
            ("AWS_LAMBDA_RUNTIME_API", &address),
            ("AWS_LAMBDA_FUNCTION_NAME", "t-worker-shop"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("TASKER_QUEUES", &queues),
            ("TASKER_POOL", "shop"),
            ("TASKER_TIMEOUT_SECONDS", "60"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
        command.env_clear().envs(usual).envs(settings.iter().copied()).kill_on_drop(true);
        command.args(flags).arg("--").args(child).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let mut stdout = BufReader::new(process.stdout.take().unwrap()).lines();
        let kept = lines.clone();
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = stdout.next_line().await {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("a log line that is not JSON: {line}"));
                kept.lock().unwrap().push(line);
            }
        });
        Self { process, lines, reading }
    }

    pub fn terminate(&self) {
        nix::sys::signal::kill(Pid::from_raw(self.process.id().unwrap() as i32), Signal::SIGTERM).unwrap();
    }

    /// Waits until it logs a line that begins so.
    pub async fn says(&self, what: &str) {
        let said = |line: &Value| line["message"].as_str().is_some_and(|message| message.starts_with(what));
        until(what, || self.lines.lock().unwrap().iter().any(said)).await;
    }

    /// How it ended, and all its log lines.
    pub async fn ended(mut self) -> (ExitStatus, Vec<Value>) {
        let status = self.process.wait().await.unwrap();
        self.reading.await.unwrap();
        (status, self.lines.lock().unwrap().clone())
    }

    /// Kills it, for its log lines.
    pub async fn kill(mut self) -> Vec<Value> {
        self.process.start_kill().unwrap();
        self.ended().await.1
    }
}
