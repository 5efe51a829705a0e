//! Many short tasks, and the check that each of them completes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tasker_test_support::{
    PATIENCE,
    dev::{Dev, Place, http},
    http_client, wait_until,
};
use tokio::task::JoinSet;

/// A diamond of four steps of fifty milliseconds each, one of which may fail a few times.
pub fn template() -> Value {
    let step = |name: &str, parents: &[&str]| {
        let retry = json!({"max_attempts": 5, "backoff": "linear", "backoff_base_ms": 100});
        json!({"name": name, "dependencies": parents, "handler": {"callable": "brief"}, "timeout_seconds": 60, "retry": retry})
    };
    json!({
        "name": "brief", "namespace": "e2e", "version": "1.0.0", "identity_strategy": "always_unique",
        "steps": [step("first", &[]), step("left", &["first"]), step("right", &["first"]), step("last", &["left", "right"])],
    })
}

/// The handlers of every fourth task fail once.
fn failures(no: usize) -> i64 {
    i64::from(no % 4 == 3)
}

/// Tasks that were accepted, and how many failures their handlers cause in each step.
#[derive(Default)]
pub struct Accepted {
    tasks: Vec<(String, i64)>,
    asked: usize,
    /// Requests of which nobody knows whether they were accepted: answered by 504, or not at all.
    unconfirmed: usize,
}

/// The answers to many requests at once.
#[derive(Default)]
pub struct Answers {
    /// How many had each status.
    pub statuses: BTreeMap<u16, usize>,
    /// The longest time of a request.
    pub slowest: Duration,
}

impl Accepted {
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().map(|(task, _)| task.as_str())
    }

    /// Submits tasks one after the other. A request that is not answered promises nothing; one that is refused has no effect.
    pub fn ask(&mut self, dev: &Dev, tasks: usize) {
        for _ in 0..tasks {
            let failures = failures(self.asked);
            self.asked += 1;
            match http("POST", &format!("{}/v1/tasks", dev.url), Some(body(failures))) {
                Ok((201, _, body)) => self.tasks.push((body["task_uuid"].as_str().unwrap().to_owned(), failures)),
                Ok((504, ..)) | Err(_) => self.unconfirmed += 1,
                Ok(_) => {}
            }
        }
    }

    /// Submits tasks all at once. Each request must be answered: with a task, with 503 and `Retry-After` if it had no effect, or with 504 and
    /// the id of the task that it may have created.
    pub fn ask_at_once(&mut self, dev: &Dev, tasks: usize) -> Answers {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let asked = self.asked;
        self.asked += tasks;
        runtime.block_on(async {
            let client = http_client().pool_max_idle_per_host(0).build().unwrap();
            let mut requests = JoinSet::new();
            for no in asked..asked + tasks {
                let request = client.post(format!("{}/v1/tasks", dev.url)).timeout(PATIENCE);
                let request = request.header("content-type", "application/json").body(body(failures(no)));
                requests.spawn(async move {
                    let begun = Instant::now();
                    let response = request.send().await.unwrap();
                    let (status, again) = (response.status().as_u16(), response.headers().contains_key("retry-after"));
                    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
                    (no, status, again, body, begun.elapsed())
                });
            }
            let mut answers = Answers::default();
            while let Some(answer) = requests.join_next().await {
                let (no, status, again, body, took) = answer.unwrap();
                *answers.statuses.entry(status).or_default() += 1;
                answers.slowest = answers.slowest.max(took);
                match status {
                    201 => self.tasks.push((body["task_uuid"].as_str().unwrap().to_owned(), failures(no))),
                    503 => assert!(again && body["error"]["code"] == "SERVICE_UNAVAILABLE", "{body}"),
                    504 => {
                        self.unconfirmed += 1;
                        assert!(
                            body["error"]["code"] == "UNCONFIRMED"
                                && body["error"]["message"].as_str().is_some_and(|m| m.contains("GET /v1/tasks/")),
                            "{body}"
                        );
                    }
                    _ => panic!("{status}: {body}"),
                }
            }
            answers
        })
    }

    /// Whether a step of the last task is done: then a worker is running.
    pub fn newest_has_begun(&self, dev: &Dev) -> bool {
        self.tasks.last().is_some_and(|(task, _)| dev.steps(task).iter().any(|step| step["results"]["result"].is_object()))
    }

    /// Waits until all tasks are complete, also those that were accepted without an answer. Fails if a step has more attempts
    /// than its handler caused, except for `lost_attempts` in total, which deaths of its worker may have cost.
    pub fn assert_complete(&self, dev: &Dev, lost_attempts: i64) {
        let mut lost = 0;
        for (task, failures) in &self.tasks {
            let task_body = dev.finished(task);
            assert_eq!(task_body["status"], "complete", "{task_body}");
            for step in dev.steps(task) {
                let attempts = step["attempts"].as_i64().unwrap();
                assert!(attempts > *failures, "{step}");
                assert_eq!(step["results"]["result"], json!({"attempt": attempts}));
                lost += attempts - failures - 1;
            }
        }
        assert!(lost <= lost_attempts, "{lost} attempts were used that no handler caused; {lost_attempts} may be");
        wait_until("no task runs any more", || dev.get("/v1/tasks?status=running")["pagination"]["total_count"] == 0);
    }

    /// No task exists but these and those of which nobody knows whether they were accepted: a refused request had no effect.
    pub fn assert_no_others(&self, dev: &Dev) {
        let all = dev.get("/v1/tasks")["pagination"]["total_count"].as_u64().unwrap() as usize;
        let most = self.tasks.len() + self.unconfirmed;
        assert!(
            (self.tasks.len()..=most).contains(&all),
            "{all} tasks exist; {} were accepted, {most} may have been",
            self.tasks.len()
        );
    }
}

fn body(failures: i64) -> String {
    json!({"namespace": "e2e", "name": "brief", "context": {"failures": failures}}).to_string()
}

/// The worker processes that run from a folder.
pub fn workers(place: &Place) -> Vec<i32> {
    let is_worker = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            let line = String::from_utf8_lossy(&line);
            line.contains("worker.py") && !line.contains("tasker-ctl")
        })
    };
    place.processes().into_iter().filter(is_worker).collect()
}
