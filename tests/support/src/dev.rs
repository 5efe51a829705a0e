//! `tasker-ctl dev` as a process, and a client of it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    time::Instant,
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    program::{binary, http_client, is_alive, kill_now, root},
    wait::{PATIENCE, wait_until},
};

/// A folder of one test with templates, data and marks. Dropping it kills whatever runs from it.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn create() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("templates")).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn template(&self, template: &Value) {
        let file = self.path("templates").join(format!("{}.yaml", template["name"].as_str().unwrap()));
        fs::write(file, template.to_string()).unwrap();
    }

    /// The processes whose command line or environment names this folder.
    pub fn processes(&self) -> Vec<i32> {
        let name = self.dir.path().as_os_str().as_encoded_bytes().to_vec();
        let names = |file: PathBuf| fs::read(file).is_ok_and(|text| text.windows(name.len()).any(|w| w == name));
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter_map(|e| e.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| *pid != std::process::id() as i32 && is_alive(*pid))
            .filter(|pid| names(format!("/proc/{pid}/cmdline").into()) || names(format!("/proc/{pid}/environ").into()))
            .collect()
    }

    /// The process of the folder's own PostgreSQL, wherever that is kept.
    pub fn postmaster(&self) -> i32 {
        let elsewhere = fs::read_to_string(self.path("data/postgres-is-in")).ok();
        let cluster = elsewhere.map_or_else(|| self.path("data/postgres"), |dir| PathBuf::from(dir.trim()));
        let files = ["postmaster.pid", "postgres/postmaster.pid", "data/postmaster.pid"].map(|file| cluster.join(file));
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
        let text = text.unwrap_or_else(|| panic!("no postmaster.pid under {}", cluster.display()));
        text.lines().next().unwrap().parse().unwrap()
    }

    /// `kill -9` for everything that runs from this folder, PostgreSQL and all.
    pub fn kill_everything(&self) {
        wait_until("nothing of this folder runs", || {
            let running = self.processes();
            for pid in &running {
                kill_now(*pid);
            }
            running.is_empty()
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill_everything();
    }
}

/// A running `tasker-ctl dev`.
pub struct Dev {
    pub url: String,
    pub child: Child,
    logs: Arc<Mutex<Vec<String>>>,
}

/// The command line of `tasker-ctl dev` for a folder: on any free port and with the folder's templates, unless the arguments say
/// otherwise.
pub fn dev_command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("tasker-ctl"));
    let root = root();
    command.args(["dev", "--data-dir"]).arg(place.path("data")).args(arguments);
    if !arguments.contains(&"--port") {
        command.args(["--port", "0"]);
    }
    if !arguments.contains(&"--templates") {
        command.arg("--templates").arg(place.path("templates"));
    }
    command
        .env_remove("DATABASE_URL")
        .env("PYTHONPATH", root.join("workers/python/src"))
        .env("TASKER_TEST_PLACE", place.dir.path())
        .stdin(Stdio::null());
    command
}

/// The value of `--worker` that starts the tests' worker for a pool.
pub fn python_worker(pool: &str) -> String {
    format!("{pool}=python3 {}", root().join("tests/e2e/worker.py").display())
}

/// A `tasker-ctl dev` that may not be ready yet.
pub struct Starting {
    pub child: Child,
    ready: mpsc::Receiver<String>,
    logs: Arc<Mutex<Vec<String>>>,
}

impl Starting {
    /// Starts it, and keeps its logs. A test that fails shows them.
    pub fn launch(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (say, ready) = mpsc::channel();
        let logs = Arc::new(Mutex::new(Vec::new()));
        let kept = logs.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix("ready: ") {
                    let _ = say.send(rest.split(' ').next().unwrap_or_default().to_owned());
                } else {
                    println!("{line}");
                    kept.lock().push(line);
                }
            }
        });
        Self { child, ready, logs }
    }

    /// Waits until it is ready.
    pub fn ready(self) -> Dev {
        let url = self.ready.recv_timeout(PATIENCE).expect("tasker-ctl dev says that it is ready");
        Dev { url, child: self.child, logs: self.logs }
    }
}

impl Dev {
    /// Starts it and waits until it is ready.
    pub fn start(place: &Place, arguments: &[&str]) -> Self {
        Starting::launch(dev_command(place, arguments)).ready()
    }

    pub fn get(&self, path: &str) -> Value {
        http("GET", &format!("{}{path}", self.url), None).unwrap().2
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, _, body) = http("POST", &format!("{}{path}", self.url), Some(body.to_string())).unwrap();
        (status, body)
    }

    pub fn submit(&self, namespace: &str, name: &str, context: Value) -> String {
        let (status, body) = self.post("/v1/tasks", &json!({"namespace": namespace, "name": name, "context": context}));
        assert_eq!(status, 201, "{body}");
        body["task_uuid"].as_str().unwrap().to_owned()
    }

    /// How many log lines contain a text.
    pub fn logged(&self, text: &str) -> usize {
        self.logs.lock().iter().filter(|line| line.contains(text)).count()
    }

    /// Waits until a task has finished.
    pub fn finished(&self, task: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let body = self.get(&format!("/v1/tasks/{task}?wait=20"));
            // An answer without a state is a refusal while the database is away.
            if body["status"].is_string() && body["status"] != "running" {
                return body;
            }
            assert!(Instant::now() < deadline, "the task goes on: {body}");
        }
    }

    pub fn steps(&self, task: &str) -> Vec<Value> {
        self.get(&format!("/v1/tasks/{task}/workflow_steps")).as_array().unwrap().clone()
    }

    /// Fails unless the stored counters and readiness agree with the facts.
    pub fn assert_healthy(&self) {
        let doctor = self.ctl(&["doctor"]);
        assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stdout));
    }

    /// Stops it in order. Answers whether it succeeded.
    pub fn stop(mut self) -> bool {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap().success()
    }

    /// `tasker-ctl` against this server.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        Command::new(binary("tasker-ctl")).args(arguments).env("TASKER_URL", &self.url).stdin(Stdio::null()).output().unwrap()
    }
}

/// Sends a request: the status, whether there is a `Retry-After`, and the body. An error if there is no answer.
pub fn http(method: &str, url: &str, body: Option<String>) -> reqwest::Result<(u16, bool, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = http_client().build()?;
        let mut request = client.request(method.parse().unwrap(), url).timeout(PATIENCE);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await?;
        let (status, again) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
        let text = response.text().await?;
        Ok((status, again, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    })
}
