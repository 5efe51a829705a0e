//! A worker under test: steps from memory, outcomes to memory, real child processes.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tasker_queue::{Delivery, Disposition, Outgoing, Queue, Receipt, SendError, SendResult, Source};
use tasker_wire::{CompleteStep, Outcome, RunStep, TaskId, outcome::Failure};
use tasker_worker::{Command, Executor, Gate, Stats, WorkerSettings, run};
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Long enough for a loaded machine, short enough for a person.
const PATIENCE: Duration = Duration::from_secs(60);

/// The step with number `no`: callable, context, and what else differs from the usual.
pub fn step(no: i32, callable: &str, context: Value) -> RunStep {
    let id = TaskId::from_fresh(uuid::Uuid::from_u128(1 << 64)).step(no);
    let message = json!({
        "v": 1, "task_id": id.task, "step_id": id, "step_name": format!("step_{no}"), "lease": 1, "attempt": 1,
        "max_attempts": 3, "token": format!("token {no}"), "timeout_seconds": 50, "correlation_id": id, "namespace": "default",
        "handler": {"callable": callable}, "context": context, "dependency_results": {},
    });
    serde_json::from_str(&message.to_string()).unwrap()
}

/// Steps in memory.
#[derive(Default)]
pub struct Steps {
    waiting: Mutex<(VecDeque<RunStep>, bool)>,
    changed: Notify,
    taken: AtomicUsize,
    answered: Arc<AtomicUsize>,
    /// The most steps that the worker held.
    pub most_held: AtomicUsize,
    unwanted: Mutex<Vec<Receipt>>,
    told: Notify,
    pub settled: Mutex<Vec<(Receipt, Disposition)>>,
    pub extended: Mutex<Vec<(Receipt, Duration)>>,
    /// The deliveries that the worker said it lost.
    pub lost: Mutex<Vec<Receipt>>,
    /// By receipt, to be delivered again.
    delivered: Mutex<HashMap<String, RunStep>>,
}

impl Steps {
    pub fn put(&self, steps: impl IntoIterator<Item = RunStep>) {
        self.waiting.lock().unwrap().0.extend(steps);
        self.changed.notify_one();
    }

    /// The outcomes of these steps are no longer needed.
    pub fn cancel(&self, numbers: impl IntoIterator<Item = i32>) {
        self.unwanted.lock().unwrap().extend(numbers.into_iter().map(receipt));
        self.told.notify_one();
    }

    pub fn close(&self) {
        self.waiting.lock().unwrap().1 = true;
        self.changed.notify_one();
    }

    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap().0.len()
    }

    fn take(&self, max: usize) -> Option<Vec<RunStep>> {
        let mut waiting = self.waiting.lock().unwrap();
        let count = waiting.0.len().min(max);
        let held = self.taken.fetch_add(count, Ordering::SeqCst) + count - self.answered.load(Ordering::SeqCst);
        self.most_held.fetch_max(held, Ordering::SeqCst);
        (count > 0 || waiting.1).then(|| waiting.0.drain(..count).collect())
    }
}

impl Source for Steps {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        loop {
            let changed = self.changed.notified();
            if let Some(steps) = self.take(max) {
                let copies = steps.iter().map(|step| (receipt(step.step_id.no).id, step.clone()));
                self.delivered.lock().unwrap().extend(copies);
                return steps.into_iter().map(delivery).collect();
            }
            changed.await;
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        self.settled.lock().unwrap().extend(settled);
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        self.extended.lock().unwrap().extend(deliveries.iter().map(|receipt| (receipt.clone(), time)));
    }

    async fn lost(&self, deliveries: &[Receipt]) {
        self.lost.lock().unwrap().extend_from_slice(deliveries);
        self.taken.fetch_sub(deliveries.len(), Ordering::SeqCst);
        let delivered = self.delivered.lock().unwrap();
        self.put(deliveries.iter().map(|receipt| delivered[&receipt.id].clone()));
    }

    async fn unwanted(&self) -> Vec<Receipt> {
        self.told.notified().await;
        std::mem::take(&mut self.unwanted.lock().unwrap())
    }
}

fn delivery(step: RunStep) -> Delivery<RunStep> {
    Delivery { receipt: receipt(step.step_id.no), message: Ok(step) }
}

/// Of the step with this number.
pub fn receipt(no: i32) -> Receipt {
    Receipt { id: format!("m{no}"), handle: format!("receipt of m{no}"), receives: 1 }
}

/// Outcomes in memory.
#[derive(Default)]
pub struct Outcomes {
    pub received: Mutex<Vec<CompleteStep>>,
    changed: Notify,
    answered: Arc<AtomicUsize>,
    /// So many sends are refused before one is accepted.
    pub refusals: AtomicUsize,
}

impl Queue for Outcomes {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return vec![Err(SendError::Refused("the queue is down".into())); messages.len()];
        }
        let results = vec![Ok(()); messages.len()];
        let complete = messages.into_iter().map(|outgoing| match outgoing {
            Outgoing::CompleteStep(complete) => Arc::unwrap_or_clone(complete),
            other => panic!("a worker sends outcomes only, not {other:?}"),
        });
        let mut received = self.received.lock().unwrap();
        let before = received.len();
        received.extend(complete);
        self.answered.fetch_add(received[before..].iter().filter(|c| is_answer(c)).count(), Ordering::SeqCst);
        drop(received);
        self.changed.notify_waiters();
        results
    }
}

impl Outcomes {
    /// Waits for something that was received.
    pub async fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[CompleteStep]) -> Option<T>) -> T {
        let found = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = find(&self.received.lock().unwrap()) {
                    return found;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("waited for {what}; received {:#?}", self.received.lock().unwrap()),
        }
    }
}

/// A worker that runs.
pub struct Rig {
    pub steps: Arc<Steps>,
    pub outcomes: Arc<Outcomes>,
    pub shutdown: CancellationToken,
    pub folder: TempDir,
    numbers: AtomicI32,
    running: JoinHandle<Stats>,
}

impl Rig {
    /// With the handlers of `children/steps.py`.
    pub async fn start() -> Self {
        Self::with(&python("steps.py"), WorkerSettings::new("test")).await
    }

    pub async fn with(command: &str, settings: WorkerSettings) -> Self {
        let command: Command = command.parse().unwrap();
        let executor = Executor::child(command, &settings).await.unwrap();
        Self::around(executor, settings)
    }

    /// With the handlers of `children/steps.py`, behind a gate.
    pub async fn gated(gate: impl Gate) -> Self {
        let (command, settings): (Command, _) = (python("steps.py").parse().unwrap(), WorkerSettings::new("test"));
        let executor = Executor::gated(command, &settings, Arc::new(gate)).await.unwrap();
        Self::around(executor, settings)
    }

    fn around(executor: Executor, settings: WorkerSettings) -> Self {
        let outcomes = Arc::new(Outcomes::default());
        let steps = Arc::new(Steps { answered: outcomes.answered.clone(), ..Steps::default() });
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(steps.clone(), outcomes.clone(), executor, settings, shutdown.clone()));
        Self { steps, outcomes, shutdown, folder: TempDir::new().unwrap(), numbers: AtomicI32::new(1000), running }
    }

    /// A number for a step that no other step of this rig has.
    pub fn fresh_number(&self) -> i32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A path in a folder of this rig.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Waits until a step was answered.
    pub async fn answer(&self, no: i32) -> CompleteStep {
        let is_answer =
            |c: &&CompleteStep| c.step_id.no == no && !matches!(c.outcome, Outcome::Started {} | Outcome::Heartbeat {});
        self.outcomes.wait_for(&format!("the answer of step {no}"), |received| received.iter().find(is_answer).cloned()).await
    }

    pub async fn success(&self, no: i32) -> Value {
        match self.answer(no).await.outcome {
            Outcome::Success { result, .. } => serde_json::from_str(result.get()).unwrap(),
            other => panic!("step {no} ended with {other:?}"),
        }
    }

    pub async fn failure(&self, no: i32) -> Failure {
        match self.answer(no).await.outcome {
            Outcome::Failure(failure) => failure,
            other => panic!("step {no} ended with {other:?}"),
        }
    }

    /// Waits until a step that asks for reports was handed to the child.
    pub async fn started(&self, no: i32) {
        let is_start = |c: &CompleteStep| c.step_id.no == no && matches!(c.outcome, Outcome::Started {});
        self.outcomes.wait_for(&format!("the start of step {no}"), |received| received.iter().any(is_start).then_some(())).await;
    }

    /// Ends the worker when all that it has is done.
    pub async fn finish(self) -> Stats {
        self.steps.close();
        self.ended().await
    }

    /// Drops the worker without a shutdown.
    pub fn abort(self) {
        self.running.abort();
    }

    pub async fn ended(self) -> Stats {
        tokio::time::timeout(PATIENCE, self.running).await.expect("the worker ends").unwrap()
    }
}

/// Reports are no answers.
pub fn is_answer(complete: &CompleteStep) -> bool {
    !matches!(complete.outcome, Outcome::Started {} | Outcome::Heartbeat {})
}

/// The same step, which asks for reports.
pub fn reported(step: RunStep) -> RunStep {
    RunStep { report_start: true, ..step }
}

/// The command that runs one of the scripts in `children/`.
pub fn python(script: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/children").join(script);
    format!("python3 {}", path.display())
}

/// The runs that steps noted in a file: name and pid of each.
pub fn runs(path: &Path) -> Vec<(String, i32)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(name, pid)| (name.to_owned(), pid.parse().unwrap())).collect()
}

/// Waits until a condition outside of this process holds.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let watching = async {
        while !is_so() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, watching).await.unwrap_or_else(|_| panic!("waited for: {what}"));
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
