//! The adapter of another engine: a program that starts the engine on a database and executes commands, one JSON line each.
//!
//! `{"id": 1, "submit": [["a", []], ["b", ["a"]]]}` is answered by `{"id": 1, "workflow": "…"}` once the workflow is durable, or by
//! `{"id": 1, "refused": true}`; `{"id": 2, "wait": "…"}` by `{"id": 2, "done": true}`. Its first line is `{"ready": "NAME VERSION"}`.
//! It ends when its stdin closes. Its processes are itself and what descends from it.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Mutex as AsyncMutex, oneshot},
    time::timeout,
};

use crate::{
    engine::{Client, Engine, PATIENCE},
    process,
    shape::Shape,
};

pub struct Adapter {
    process: Child,
    line: Line,
    /// The engine's name and version, from the ready line.
    pub name: String,
}

/// The pipe to the program, shared by its clients.
#[derive(Clone)]
struct Line {
    stdin: Arc<AsyncMutex<Option<ChildStdin>>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
    next: Arc<AtomicU64>,
}

impl Adapter {
    /// Starts the program; it finds the address of its database in `DATABASE_URL`.
    pub async fn start(command: &[String], database_url: &str) -> Result<Self> {
        let (program, arguments) = command.split_first().context("an adapter is a command")?;
        let mut process = Command::new(program)
            .args(arguments)
            .env("DATABASE_URL", database_url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} cannot be started"))?;
        let stdin = process.stdin.take().context("it has a stdin")?;
        let mut lines = BufReader::new(process.stdout.take().context("it has a stdout")?).lines();
        let first = lines.next_line().await?.context("the adapter ended before it was ready")?;
        let first: Value = serde_json::from_str(&first)?;
        let name = first["ready"].as_str().context("an adapter says first that it is ready")?.to_owned();
        let line = Line { stdin: Arc::new(AsyncMutex::new(Some(stdin))), waiting: Arc::default(), next: Arc::default() };
        let waiting = line.waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(text)) = lines.next_line().await {
                let Ok(answer) = serde_json::from_str::<Value>(&text) else { continue };
                let asked = answer["id"].as_u64().and_then(|id| waiting.lock().remove(&id));
                if let Some(asked) = asked {
                    let _ = asked.send(answer);
                }
            }
            // Dropping the senders ends all waiting calls.
            waiting.lock().clear();
        });
        Ok(Self { process, line, name })
    }
}

impl Engine for Adapter {
    type Client = AdapterClient;

    async fn client(&self) -> Result<AdapterClient> {
        Ok(AdapterClient(self.line.clone()))
    }

    fn pids(&self) -> Vec<u32> {
        self.process.id().map(process::tree).unwrap_or_default()
    }

    async fn stop(mut self) -> Result<()> {
        self.line.stdin.lock().await.take();
        if timeout(PATIENCE, self.process.wait()).await.is_err() {
            self.process.kill().await?;
            bail!("the adapter did not end");
        }
        Ok(())
    }
}

pub struct AdapterClient(Line);

impl AdapterClient {
    async fn ask(&self, mut question: Value) -> Result<Value> {
        let (sender, answer) = oneshot::channel();
        let id = self.0.next.fetch_add(1, Relaxed);
        self.0.waiting.lock().insert(id, sender);
        question["id"] = id.into();
        let mut stdin = self.0.stdin.lock().await;
        stdin.as_mut().context("the adapter was stopped")?.write_all(format!("{question}\n").as_bytes()).await?;
        drop(stdin);
        let answer = answer.await.context("the adapter ended")?;
        match answer["error"].as_str() {
            Some(error) => bail!("the adapter: {error}"),
            None => Ok(answer),
        }
    }
}

impl Client for AdapterClient {
    async fn submit(&mut self, shape: Shape) -> Result<Option<String>> {
        let answer = self.ask(json!({"submit": shape.steps()})).await?;
        Ok(answer["workflow"].as_str().map(str::to_owned))
    }

    async fn wait(&mut self, workflow: &str) -> Result<bool> {
        match timeout(PATIENCE, self.ask(json!({"wait": workflow}))).await {
            Ok(answer) => Ok(answer?["done"] == true),
            Err(_) => Ok(false),
        }
    }
}
