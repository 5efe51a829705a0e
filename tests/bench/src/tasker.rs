//! Our own engine: `tasker-ctl dev` over a database of the benchmark's server, with one worker process.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use hyper::{Method, StatusCode};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::{
    engine::{Client, Ended, Engine, PATIENCE},
    http::Http,
    process,
    shape::Shape,
};

/// The languages of the measured handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
}

impl Language {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
        }
    }

    /// The command of its worker; the programs are built by `scripts/bench`.
    fn worker(self, bin: &Path) -> String {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Rust => bin.join("bench-worker").display().to_string(),
            Self::Python => {
                let sdk = here.join("../../workers/python/src");
                format!("PYTHONPATH={} python3 {}", sdk.display(), here.join("worker.py").display())
            }
        }
    }
}

pub struct Tasker {
    process: Child,
    address: String,
    language: Language,
    /// Seconds from the start of the process until it served.
    pub started_in: f64,
}

impl Tasker {
    /// Starts it with the shapes as its templates.
    pub async fn start(bin: &Path, database_url: &str, language: Language, shapes: &[Shape]) -> Result<Self> {
        let templates = tempfile::tempdir()?;
        for shape in shapes {
            std::fs::write(templates.path().join(shape.name()).with_extension("yaml"), shape.template(language.name()))?;
        }
        let begun = Instant::now();
        let mut process = Command::new(bin.join("tasker-ctl"))
            .args(["dev", "--port", "0", "--database-url", database_url])
            .args(["--max-concurrent-handlers", "64"])
            .arg("--templates")
            .arg(templates.path())
            .arg("--worker")
            .arg(format!("{}={}", language.name(), language.worker(bin)))
            .env_remove("TASKER_LOG")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("tasker-ctl cannot be started; is it built?")?;
        let stdout = process.stdout.take().context("it has a stdout")?;
        let mut lines = BufReader::new(stdout).lines();
        let address = loop {
            let Some(line) = lines.next_line().await? else { bail!("tasker-ctl ended before it was ready") };
            if let Some((_, rest)) = line.split_once("ready: http://") {
                break rest.split(' ').next().unwrap_or_default().to_owned();
            }
        };
        let started_in = begun.elapsed().as_secs_f64();
        // What it logs must not fill the pipe; errors are worth seeing.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("ERROR") || line.contains("WARN") {
                    eprintln!("{line}");
                }
            }
        });
        Ok(Self { process, address, language, started_in })
    }
}

impl Engine for Tasker {
    type Client = TaskerClient;

    async fn client(&self) -> Result<TaskerClient> {
        Ok(TaskerClient { http: Http::to(&self.address).await?, pool: self.language.name() })
    }

    fn pids(&self) -> Vec<u32> {
        self.process.id().map(process::tree).unwrap_or_default()
    }

    async fn stop(mut self) -> Result<()> {
        let pid = self.process.id().context("it runs")?;
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
        if timeout(PATIENCE, self.process.wait()).await.is_err() {
            self.process.kill().await?;
            bail!("tasker-ctl did not end");
        }
        Ok(())
    }
}

pub struct TaskerClient {
    http: Http,
    pool: &'static str,
}

/// What a caller looks at.
#[derive(Deserialize)]
struct Task {
    task_uuid: String,
    status: String,
}

impl TaskerClient {
    async fn post(&mut self, shape: Shape, query: &str) -> Result<Option<Task>> {
        let body = request(self.pool, shape).to_string();
        let (status, answer) = self.http.request(Method::POST, &format!("/v1/tasks{query}"), &body).await?;
        match status {
            StatusCode::CREATED => Ok(Some(serde_json::from_slice(&answer)?)),
            StatusCode::SERVICE_UNAVAILABLE => Ok(None),
            _ => bail!("{status}: {}", String::from_utf8_lossy(&answer)),
        }
    }
}

impl Client for TaskerClient {
    async fn submit(&mut self, shape: Shape) -> Result<Option<String>> {
        Ok(self.post(shape, "").await?.map(|task| task.task_uuid))
    }

    async fn wait(&mut self, workflow: &str) -> Result<bool> {
        let path = format!("/v1/tasks/{workflow}?wait={}", PATIENCE.as_secs());
        let (status, answer) = self.http.request(Method::GET, &path, "").await?;
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&answer));
        ended(&serde_json::from_slice(&answer)?)
    }

    async fn run(&mut self, shape: Shape) -> Result<Ended> {
        let query = format!("?wait={}", PATIENCE.as_secs());
        let Some(task) = self.post(shape, &query).await? else { return Ok(Ended::Refused) };
        Ok(if ended(&task)? { Ended::Complete } else { Ended::TimedOut })
    }
}

fn ended(task: &Task) -> Result<bool> {
    match task.status.as_str() {
        "complete" => Ok(true),
        "running" => Ok(false),
        other => bail!("task {} is {other}", task.task_uuid),
    }
}

/// About 190 bytes of context.
fn request(pool: &str, shape: Shape) -> Value {
    json!({
        "name": shape.name(),
        "namespace": pool,
        "context": {
            "order_id": "6b1f0c7e-52a1-4c58-9f3e-0d9a2a1f7b11",
            "customer": {"email": "ada@example.com", "tier": "gold"},
            "items": [{"sku": "A-100", "quantity": 2}, {"sku": "B-200", "quantity": 1}],
            "note": "leave at the door",
        },
    })
}
