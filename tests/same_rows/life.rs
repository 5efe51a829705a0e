//! A random life of two databases: submits, batches of outcomes, pauses, cancels, operators and sweeps.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::value::RawValue;
use tasker_domain::{FailureEffect, Verdict, decide::Again};
use tasker_store::{Change, Completion, DispatchSettings, NewTask, Operation, TemplateRows};
use tasker_test_support::Chance;
use tasker_wire::{Answer, Failure, StepId, TaskId, TaskState, ids::step_no, message::Lease};
use uuid::Uuid;

use crate::{graph, twins::Twins};

/// Calls between two comparisons of all rows.
const COMPARED_AFTER: usize = 40;
/// Below this number of live steps more tasks are submitted.
const LIVE: usize = 60;
const HELD_MS: i64 = 61_000;
/// What the inputs of a step may have together, and the bodies that a call returns.
const INPUT_BYTES: [i64; 3] = [300, 20_000, 6 << 20];
const BODIES: [i32; 3] = [1, 3, 200];
const BODY_BYTES: [usize; 6] = [0, 10, 40, 100, 400, 3_000];
const BY: (&str, &str) = ("operator", "because");
const BY_HAND: &str = r#"{"result": "by hand"}"#;

/// What a worker said.
#[derive(Clone, Debug)]
struct Said {
    lease: Lease,
    attempt: i32,
    kind: &'static str,
    body: Box<RawValue>,
    digest: i64,
    metadata: Option<Box<RawValue>>,
    if_due: bool,
}

pub struct Life {
    pub twins: Twins,
    /// How often each case was met.
    pub seen: BTreeMap<String, usize>,
    chance: Chance,
    send_ms: Option<i64>,
    templates: HashMap<TaskId, Arc<TemplateRows>>,
    submitted: Vec<NewTask>,
    said: Vec<Said>,
    paused: bool,
}

impl Life {
    /// Every other one has its queue inside the process.
    pub fn of(twins: Twins, chance: Chance, number: u64) -> Self {
        let send_ms = number.is_multiple_of(2).then_some(30_000);
        let (seen, templates) = (BTreeMap::new(), HashMap::new());
        Self { twins, seen, chance, send_ms, templates, submitted: Vec::new(), said: Vec::new(), paused: false }
    }

    pub async fn live(&mut self, calls: usize) {
        for call in 1..=calls {
            self.twins.pass(1).await;
            let live = self.live_steps().await;
            let one_of_many = self.chance.below(100);
            match one_of_many {
                _ if live.len() < LIVE && !self.chance.permille(300) => self.submit().await,
                0..=3 => self.submit().await,
                4..=6 => self.sweep().await,
                7..=8 => self.operate().await,
                9..=11 => self.pause().await,
                12..=20 if self.paused => self.pause().await,
                _ => self.complete(&live).await,
            }
            if call % COMPARED_AFTER == 0 {
                self.twins.compare(&format!("call {call}")).await;
            }
        }
        self.twins.compare("the last call").await;
        self.twins.examine().await;
    }

    fn settings(&mut self) -> DispatchSettings {
        let (bodies, bytes) = (self.chance.below(9), self.chance.below(9));
        DispatchSettings {
            send_ms: self.send_ms,
            bodies: *BODIES.get(bodies).unwrap_or(&200),
            input_bytes: *INPUT_BYTES.get(bytes).unwrap_or(&(6 << 20)),
        }
    }

    fn note(&mut self, what: &str, case: impl AsRef<str>) {
        *self.seen.entry(format!("{what}: {}", case.as_ref())).or_default() += 1;
    }

    async fn live_steps(&self) -> Vec<(Lease, i32)> {
        let sql = "select task_id, no, lease, attempt from tasker.steps where state in ('enqueued', 'in_progress') order by 1, 2";
        let rows = self.twins.product.sql.query(sql, &[]).await.unwrap();
        let lease = |row: &tokio_postgres::Row| Lease {
            step: TaskId::from_uuid(row.get(0)).unwrap().step(row.get(1)),
            number: row.get(2),
        };
        rows.iter().map(|row| (lease(row), row.get(3))).collect()
    }

    async fn submit(&mut self) {
        let many = if self.chance.permille(600) { 1 } else { 2 + self.chance.below(8) };
        let mut tasks: Vec<NewTask> = Vec::new();
        for _ in 0..many {
            let id =
                TaskId::from_fresh(Uuid::from_u128(u128::from(self.chance.number()) << 64 | u128::from(self.chance.number())));
            let rows = graph::rows(&mut self.chance);
            let mut task = graph::task(&mut self.chance, &rows, id);
            // The same request again, and another one under the same id.
            if !self.submitted.is_empty() && self.chance.permille(250) {
                let known = &self.submitted[self.chance.below(self.submitted.len())];
                match self.chance.below(4) {
                    0 | 3 => task.identity = known.identity,
                    1 => task.task = known.task,
                    _ => task = known.clone(),
                }
            }
            if tasks.iter().all(|t| t.task != task.task) {
                tasks.push(task);
            }
        }
        let settings = self.settings();
        let (product, general) =
            tokio::join!(self.twins.product.store.submit(&tasks, settings), self.twins.general.store.submit(&tasks, settings));
        let (product, general) = (product.unwrap(), general.unwrap());
        assert_eq!(format!("{product:#?}"), format!("{general:#?}"), "submit {tasks:#?}");
        let what = if tasks.len() == 1 { "a submit alone" } else { "submits" };
        for (task, inserted) in tasks.into_iter().zip(&product) {
            let case = match inserted {
                i if !i.created && i.task == task.task => "the id was known",
                i if !i.created => "the identity was known",
                i if i.state == TaskState::Complete => "without steps",
                i if !i.dispatched => "held",
                _ => "inserted",
            };
            self.note(what, case);
            if inserted.created {
                self.templates.insert(task.task, task.rows.clone());
                self.submitted.push(task);
            }
        }
    }

    /// Sets a pause, or lifts all.
    async fn pause(&mut self) {
        let (namespace, name) = graph::NAMES[self.chance.below(graph::NAMES.len())];
        let sql = match (self.paused, self.chance.below(3)) {
            (true, _) => "delete from tasker.pauses; update tasker.tasks set paused_at = null where paused_at is not null".to_owned(),
            (_, 0) => format!("insert into tasker.pauses values ('{namespace}', '', 'me', 'why', tasker.clock())"),
            (_, 1) => format!("insert into tasker.pauses values ('{namespace}', '{name}', 'me', 'why', tasker.clock())"),
            _ => "update tasker.tasks set paused_at = tasker.clock() where state = 'running' and get_byte(uuid_send(task_id), 0) < 100".into(),
        };
        self.paused = !self.paused;
        self.twins.execute(&sql).await;
    }

    /// Handles what is due; steps that were held too, if their pause is lifted.
    async fn sweep(&mut self) {
        self.twins.pass(HELD_MS).await;
        let settings = DispatchSettings { bodies: 200, input_bytes: 6 << 20, ..self.settings() };
        let Twins { product, general, .. } = &self.twins;
        let (one, other) = tokio::join!(product.store.sweep(100_000, settings), general.store.sweep(100_000, settings));
        self.twins.same("sweep", [one, other]);
    }

    async fn operate(&mut self) {
        if self.submitted.is_empty() {
            return;
        }
        let task = self.submitted[self.chance.below(self.submitted.len())].task;
        let settings = self.settings();
        let stores = [&self.twins.product.store, &self.twins.general.store];
        let [one, other] = if self.chance.permille(200) {
            let [one, other] = stores.map(|store| store.operate(Operation::new("cancel_task", (task, None), BY), settings));
            <[_; 2]>::from(tokio::join!(one, other))
        } else {
            let sql =
                "select no from tasker.steps where task_id = $1 and state in ('error', 'waiting_for_retry', 'cancelled') limit 1";
            let Some(row) = self.twins.product.sql.query_opt(sql, &[&task.uuid()]).await.unwrap() else { return };
            let no = row.get(0);
            if self.chance.permille(500) {
                let [one, other] =
                    stores.map(|store| store.operate(Operation::new("retry_step", (task, Some(no)), BY), settings));
                <[_; 2]>::from(tokio::join!(one, other))
            } else {
                let [one, other] = stores.map(|store| {
                    let operation = Operation::new("resolve_step", (task, Some(no)), BY);
                    store.operate(Operation { args: BY_HAND, ..operation }, settings)
                });
                <[_; 2]>::from(tokio::join!(one, other))
            }
        };
        self.twins.same("an operator's action", [one, other]);
    }

    async fn complete(&mut self, live: &[(Lease, i32)]) {
        let batch = self.batch(live);
        let settings = self.settings();
        let completions: Vec<Completion<'_>> = batch.iter().map(completion).collect();
        let Twins { product, general, .. } = &self.twins;
        let (one, other) =
            tokio::join!(product.store.complete(&completions, settings), general.store.complete(&completions, settings));
        drop(completions);
        let call = format!("{settings:?} {batch:#?}");
        let changes = self.twins.same(&call, [one, other]);
        let what = match &batch[..] {
            batch if batch.iter().any(|s| s.kind != "complete" || s.if_due) => "outcomes",
            [_] => "a success alone",
            _ => "successes",
        };
        self.note_completions(what, &batch, &changes, settings);
        self.said.extend(batch);
    }

    /// Outcomes, ascending by step, at most one of each.
    fn batch(&mut self, live: &[(Lease, i32)]) -> Vec<Said> {
        let many = match self.chance.below(10) {
            0..=5 => 1,
            6..=7 => 2 + self.chance.below(7),
            _ => 9 + self.chance.below(56),
        };
        let is_mixed = self.chance.permille(120);
        let mut steps = BTreeSet::new();
        let mut batch: Vec<Said> = Vec::new();
        // Some calls bring nothing but what is current.
        let wrong = if self.chance.permille(600) { 0 } else { 300 };
        // A step that is the only live one of its task often makes a join ready, or ends the task.
        let last: Vec<(Lease, i32)> =
            live.chunk_by(|a, b| a.0.step.task == b.0.step.task).filter(|c| c.len() == 1).flatten().copied().collect();
        for _ in 0..many {
            let live = if many == 1 && !last.is_empty() && self.chance.permille(500) { &last } else { live };
            let mut said = self.say(live, is_mixed);
            if self.chance.permille(wrong) {
                self.spoil(&mut said);
            }
            if steps.insert(said.lease.step) {
                batch.push(said);
            }
        }
        batch.sort_by_key(|said| said.lease.step);
        batch
    }

    fn say(&mut self, live: &[(Lease, i32)], is_mixed: bool) -> Said {
        let unknown = Lease { step: TaskId::from_fresh(Uuid::from_u128(7 << 100)).step(step_no(0)), number: 1 };
        let (lease, attempt) = if live.is_empty() { (unknown, 1) } else { live[self.chance.below(live.len())] };
        let kinds = ["error", "error", "tolerated", "retry", "checkpoint", "released", "lost", "started", "started", "callback"];
        let kind = if is_mixed && self.chance.permille(400) { kinds[self.chance.below(kinds.len())] } else { "complete" };
        // The last attempt is not followed by another one.
        let kind = if kind == "retry" && attempt >= graph::MAX_ATTEMPTS { "error" } else { kind };
        let bytes = BODY_BYTES[self.chance.below(BODY_BYTES.len())];
        let body = format!("{{\"n\" : {}.0, \"text\": \"{}\"}}", self.chance.below(1000), "é".repeat(bytes / 2));
        let metadata = self.chance.permille(300).then(|| raw("{\"a\":  1}".into()));
        let digest = self.chance.below(2) as i64 + 10 * i64::from(lease.number);
        Said { lease, attempt, kind, body: raw(body), digest, metadata, if_due: is_mixed && self.chance.permille(30) }
    }

    /// Makes it a repetition, an outcome under another lease, or one of no step.
    fn spoil(&mut self, said: &mut Said) {
        match self.chance.below(6) {
            0..=2 if !self.said.is_empty() => {
                *said = self.said[self.chance.below(self.said.len())].clone();
                said.digest ^= i64::from(self.chance.permille(300));
            }
            3 => said.lease.number += self.chance.below(3) as i32 - 2,
            4 => said.lease.number += 1,
            _ => said.lease.step.no += 1,
        }
    }

    fn note_completions(&mut self, what: &str, batch: &[Said], changes: &[Change], settings: DispatchSettings) {
        self.note(what, "calls");
        let mut ready: HashMap<TaskId, usize> = HashMap::new();
        for change in changes {
            match change {
                Change::Answer(place, answer) => {
                    self.note(what, format!("{answer:?}").to_lowercase());
                    if *answer == Answer::Accepted {
                        self.note_children(what, batch[*place].lease.step, &mut ready);
                    }
                }
                Change::Finished(_, state) => self.note(what, format!("ends a task as {state}")),
                Change::Run(run) => {
                    *ready.entry(run.lease.step.task).or_default() += 1;
                    self.note_message(what, run.lease.step, run.result_bytes, settings);
                }
                Change::RunKey(lease) => {
                    *ready.entry(lease.step.task).or_default() += 1;
                    self.note(what, "a key instead of a message");
                }
                _ => {}
            }
        }
        for (_, count) in ready {
            self.note(what, format!("{} became ready", if count > 1 { "several".into() } else { count.to_string() }));
        }
    }

    fn note_children(&mut self, what: &str, step: StepId, ready: &mut HashMap<TaskId, usize>) {
        let children = self.templates[&step.task].children[step.position().unwrap()].clone();
        let children = children.trim_matches(['{', '}']).split(',').filter(|c| !c.is_empty()).count();
        self.note(
            what,
            match children {
                0 => "no child",
                1..=3 => "up to three children",
                _ => "more than three children",
            },
        );
        if children > 0 {
            ready.entry(step.task).or_default();
            if self.paused {
                self.note(what, "children while something is paused");
            }
        }
    }

    fn note_message(&mut self, what: &str, step: StepId, bytes: i64, settings: DispatchSettings) {
        let (rows, position) = (&self.templates[&step.task], step.position().unwrap());
        let count = |list: &str| list.trim_matches(['{', '}']).split(',').filter(|c| !c.is_empty()).count();
        let (parents, further) = (count(&rows.parents[position]), count(&rows.further_ancestors[position]));
        self.note(
            what,
            match parents + further {
                1 => "a message with the result of one",
                2..=64 => "a message with the results of several",
                _ => "a message with the results of more than 64",
            },
        );
        if bytes > settings.input_bytes {
            self.note(what, "results that are too large");
        } else if bytes > settings.input_bytes / 64 {
            self.note(what, "large results");
        }
    }
}

fn completion(said: &Said) -> Completion<'_> {
    let failure = || Failure::retryable("it failed", "no");
    let verdict = match said.kind {
        "complete" => Verdict::Complete(&said.body),
        "error" => Verdict::Error { failure: failure(), effect: FailureEffect::Blocks },
        "tolerated" => Verdict::Error { failure: failure(), effect: FailureEffect::Tolerated },
        "retry" => Verdict::Retry(5_000, failure()),
        "checkpoint" => Verdict::DispatchAgain(Again::Checkpoint(said.body.clone())),
        "released" => Verdict::DispatchAgain(Again::Released),
        "lost" => Verdict::DispatchAgain(Again::WorkerLost),
        "started" => Verdict::Started(40_000),
        _ => Verdict::AwaitCallback(40_000),
    };
    Completion {
        lease: said.lease,
        attempt: said.attempt,
        verdict,
        metadata: said.metadata.as_deref(),
        digest: said.digest,
        worker: format!("worker {}", said.digest % 3),
        duration_ms: said.digest * 3,
        if_due: said.if_due,
        failure_effect: FailureEffect::default(),
        has_place: false,
    }
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("it is JSON")
}
