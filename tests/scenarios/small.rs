//! Every life of small tasks with decisions and batches, up to a number of calls. Each call is made on a copy of the rows that the calls
//! before it left, and the rows after it are those of the [`Definition`]. `TASKER_SMALL_CALLS` lengthens the lives.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tasker_domain::{
    Created,
    template::{StepKind, Workflow, parse},
    token::{SigningKey, TemplateRef, sign},
};
use tasker_engine::{OperatorAction, OperatorError, Precondition};
use tasker_wire::{Answer, CompleteStep, Lease, StepNo, StepState, TaskId, TaskState, ids::position, message::VERSION};
use uuid::Uuid;

use crate::{
    definition::{Call, Definition, Row, Said},
    messages,
    rig::{Rig, by, raw, workflow},
};

/// The calls of a life.
const CALLS: usize = 3;
/// Calls that are made at once, of different tasks.
const AT_ONCE: usize = 4;

struct Small {
    rig: Rig,
    workflow: Workflow,
    template: TemplateRef,
    /// Copies all rows of the task OLD but those of the logs, for the task NEW.
    copy: String,
    calls: usize,
}

/// A task whose rows are as its definition says.
#[derive(Clone)]
struct Node {
    task: TaskId,
    definition: Definition,
    said: Vec<Call>,
    /// What the last call dispatched, with its lease.
    sent: BTreeMap<StepNo, i32>,
}

fn steps(kinds: &[(&str, &str, &[&str])], batch: Value) -> Value {
    let step = |(name, kind, parents): &(&str, &str, &[&str])| {
        // What waits for a retry waits until a call lets the time pass.
        let retry = json!({"backoff": "linear", "backoff_base_ms": 3_600_000, "max_backoff_ms": 3_600_000,
            "max_attempts": if name.starts_with("twice") { 2 } else { 1 }});
        let mut step = json!({"name": name, "type": kind, "dependencies": parents, "retry": retry});
        if *kind == "batchable" {
            step["batch_config"] = batch.clone();
            step["batch_config"]["worker_template"] = json!(format!("{name}w"));
        }
        step
    };
    kinds.iter().map(step).collect()
}

/// Two alternatives and what joins them.
fn decision() -> Value {
    steps(
        &[
            ("start", "standard", &[]),
            ("d", "decision", &["start"]),
            ("a", "standard", &["d"]),
            ("b", "standard", &["d"]),
            ("join", "deferred_convergence", &["a", "b"]),
        ],
        json!({}),
    )
}

/// A decision that may make another one, and a step that waits for neither.
fn nested() -> Value {
    steps(
        &[
            ("start", "standard", &[]),
            ("d", "decision", &["start"]),
            ("e", "decision", &["d"]),
            ("twice_a", "standard", &["e"]),
            ("join", "deferred_convergence", &["e", "twice_a"]),
        ],
        json!({}),
    )
}

/// Two decisions that feed the same steps.
fn two() -> Value {
    steps(
        &[
            ("start", "standard", &[]),
            ("d", "decision", &["start"]),
            ("e", "decision", &["start"]),
            ("both", "standard", &["d", "e"]),
            ("join", "deferred_convergence", &["d", "both"]),
        ],
        json!({}),
    )
}

/// A batch with so many places.
fn batch(strategy: &str, places: Option<usize>) -> Value {
    let mut config = json!({ "failure_strategy": strategy });
    if let Some(places) = places {
        config["parallelism"] = json!(places);
    }
    steps(
        &[
            ("start", "standard", &[]),
            ("s", "batchable", &["start"]),
            ("sw", "batch_worker", &["s"]),
            ("join", "deferred_convergence", &["sw"]),
        ],
        config,
    )
}

/// A batch behind a decision.
fn decided_batch() -> Value {
    let all: &[(&str, &str, &[&str])] = &[
        ("start", "standard", &[]),
        ("d", "decision", &["start"]),
        ("s", "batchable", &["d"]),
        ("sw", "batch_worker", &["s"]),
        ("join", "deferred_convergence", &["sw"]),
    ];
    steps(all, json!({"failure_strategy": "fail_fast", "parallelism": 1}))
}

/// A batch beside a decision, and what joins both.
fn batch_beside_a_decision() -> Value {
    let all: &[(&str, &str, &[&str])] = &[
        ("start", "standard", &[]),
        ("d", "decision", &["start"]),
        ("a", "standard", &["d"]),
        ("s", "batchable", &["start"]),
        ("sw", "batch_worker", &["s"]),
        ("join", "deferred_convergence", &["a", "sw"]),
    ];
    steps(all, json!({"failure_strategy": "continue_on_failure", "parallelism": 1}))
}

#[tokio::test]
async fn small_tasks_with_a_batch_behind_a_decision_are_as_defined_after_every_call() {
    explore("a batch behind a decision", decided_batch()).await;
}

#[tokio::test]
async fn small_tasks_with_a_batch_beside_a_decision_are_as_defined_after_every_call() {
    explore("a batch beside a decision", batch_beside_a_decision()).await;
}

#[tokio::test]
async fn small_tasks_with_a_decision_are_as_defined_after_every_call() {
    explore("decision", decision()).await;
}

#[tokio::test]
async fn small_tasks_with_nested_decisions_are_as_defined_after_every_call() {
    explore("nested", nested()).await;
}

#[tokio::test]
async fn small_tasks_with_two_decisions_are_as_defined_after_every_call() {
    explore("two", two()).await;
}

#[tokio::test]
async fn small_tasks_with_a_batch_that_fails_fast_are_as_defined_after_every_call() {
    explore_batches("fail_fast").await;
}

#[tokio::test]
async fn small_tasks_with_a_batch_that_isolates_failures_are_as_defined_after_every_call() {
    explore_batches("isolate").await;
}

#[tokio::test]
async fn small_tasks_with_a_batch_that_tolerates_failures_are_as_defined_after_every_call() {
    explore_batches("continue_on_failure").await;
}

async fn explore_batches(strategy: &str) {
    for places in [Some(1), Some(2), None] {
        explore(&format!("{strategy}, {places:?} places"), batch(strategy, places)).await;
    }
}

/// Makes every call in every state, and prints how many there were.
async fn explore(what: &str, steps: Value) {
    let small = Small::of(steps).await;
    let mut level = vec![small.submitted().await];
    let (mut seen, mut made) = (level.iter().map(|node| format!("{:?}", node.definition)).collect::<Vec<_>>(), 0);
    for _ in 0..small.calls {
        let jobs: Vec<(Node, Call)> =
            level.iter().flat_map(|node| small.possible(node).into_iter().map(|call| (node.clone(), call))).collect();
        made += jobs.len();
        let after: Vec<Option<Node>> =
            stream::iter(jobs).map(|(node, call)| small.make(node, call)).buffer_unordered(AT_ONCE).collect().await;
        level = after.into_iter().flatten().collect();
        small.compare_messages(&level).await;
        // Of the lives that lead to the same rows one goes on.
        let mut new = BTreeMap::new();
        for node in level {
            new.entry(format!("{:?}", node.definition)).or_insert(node);
        }
        new.retain(|key, _| !seen.contains(key));
        seen.extend(new.keys().cloned());
        level = new.into_values().collect();
        small.rig.check().await;
    }
    println!("{what}: {} states, {made} calls", seen.len());
}

impl Small {
    async fn of(steps: Value) -> Self {
        let calls =
            std::env::var("TASKER_SMALL_CALLS").map_or(CALLS, |calls| calls.parse().expect("TASKER_SMALL_CALLS is a number"));
        let yaml = workflow("small", steps);
        let rig = Rig::still().await;
        rig.register(&yaml).await;
        let template_id: Uuid = rig.sql.query_one("select template_id from tasker.templates", &[]).await.unwrap().get(0);
        let mut copy = Vec::new();
        for table in ["tasks", "steps", "batches", "attempts", "in_process"] {
            let columns = format!(
                "select coalesce(string_agg(', ' || attname, '' order by attnum), '') from pg_attribute
                 where attrelid = 'tasker.{table}'::regclass and attnum > 0 and not attisdropped and attname <> 'task_id'"
            );
            let columns: String = rig.sql.query_one(&columns, &[]).await.unwrap().get(0);
            copy.push(format!(
                "insert into tasker.{table} (task_id{columns}) select 'NEW'{columns} from tasker.{table} where task_id = 'OLD'"
            ));
        }
        let (parsed, _) = parse(&yaml).unwrap();
        Self {
            rig,
            workflow: parsed.workflow("test").unwrap(),
            template: TemplateRef { template_id, environment: "test".into() },
            copy: copy.join(";"),
            calls,
        }
    }

    /// A task whose first step is done.
    async fn submitted(&self) -> Node {
        let task = self.rig.submit("small", json!({})).await;
        let node = Node { task, definition: Definition::submitted(&self.workflow), said: vec![], sent: BTreeMap::new() };
        self.compare(&node).await;
        let first = *node.definition.rows.keys().next().unwrap();
        self.rig.receive_all().await;
        let started = self.make(node, Call::Answer(first, 1, Said::Success(None))).await.unwrap();
        self.compare_messages(std::slice::from_ref(&started)).await;
        started
    }

    /// Calls that may do something, or are refused, in this state.
    fn possible(&self, node: &Node) -> Vec<Call> {
        let mut calls = vec![Call::Cancel, Call::Reopen, Call::ResolveTask, Call::Pause, Call::Resume];
        for (&no, row) in &node.definition.rows {
            calls.extend([Call::Retry(no), Call::Redo(no), Call::Resolve(no)]);
            if row.state == StepState::WaitingForRetry && !calls.contains(&Call::Sweep) {
                calls.push(Call::Sweep);
            }
            if !row.is_live() {
                continue;
            }
            calls.extend(self.successes(no).into_iter().map(|created| Call::Answer(no, row.lease, Said::Success(created))));
            calls.extend(
                [Said::Permanent, Said::Retryable, Said::Again, Said::Started, Said::Callback]
                    .map(|said| Call::Answer(no, row.lease, said)),
            );
            if row.lease > 1 {
                calls.push(Call::Answer(no, row.lease - 1, Said::Success(self.successes(no).remove(0))));
            }
        }
        calls
    }

    /// Everything that a success of the step may make.
    fn successes(&self, no: StepNo) -> Vec<Option<Created>> {
        let at = position(no).unwrap();
        match self.workflow.steps[at].kind {
            StepKind::Decision => {
                let may = |step: &usize| self.workflow.steps[*step].parents.contains(&at);
                let below: Vec<usize> = (0..self.workflow.steps.len()).filter(may).collect();
                let chosen =
                    |set: usize| below.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1).map(|(_, step)| *step).collect();
                (0..1 << below.len()).map(|set| Some(Created::Steps(chosen(set)))).collect()
            }
            StepKind::Batchable => [0, 1, 2, 3].map(|workers| Some(Created::Workers(workers))).into(),
            _ => vec![None],
        }
    }

    /// Makes a call on a copy of the task. Returns the copy if the call changed it.
    async fn make(&self, node: Node, call: Call) -> Option<Node> {
        let Node { task, mut definition, mut said, .. } = node;
        let copy = TaskId::from_fresh(Uuid::now_v7());
        let sql = self.copy.replace("NEW", &copy.uuid().to_string()).replace("OLD", &task.uuid().to_string());
        self.rig.execute(&format!("begin;{sql};commit")).await;
        said.push(call.clone());
        let before = definition.clone();
        let expected = definition.apply(&self.workflow, &call);
        let done = self.carry_out(copy, &before, &call).await;
        assert_eq!(done, expected, "whether it is carried out: {said:?}");
        let is_new = |(no, row): &(&StepNo, &Row)| {
            row.is_live() && !before.rows.get(no).is_some_and(|old| old.is_live() && old.lease == row.lease)
        };
        let sent = definition.rows.iter().filter(is_new).map(|(no, row)| (*no, row.lease)).collect();
        let after = Node { task: copy, definition, said, sent };
        self.compare(&after).await;
        (after.definition != before).then_some(after)
    }

    async fn carry_out(&self, task: TaskId, before: &Definition, call: &Call) -> bool {
        let (no, action) = match call {
            Call::Answer(no, lease, said) => return self.answer(task, before, (*no, *lease), said).await,
            Call::Sweep => {
                let due = format!(
                    "update tasker.steps set wake_at = tasker.clock() - interval '1 s' where task_id = '{task}' and state = 'waiting_for_retry'"
                );
                self.rig.execute(&due).await;
                self.rig.engine.sweep().await.unwrap();
                return true;
            }
            Call::Retry(no) => (Some(*no), OperatorAction::RetryStep { inputs: None }),
            Call::Redo(no) => (Some(*no), OperatorAction::RedoStep { inputs: None }),
            Call::Resolve(no) => (Some(*no), OperatorAction::ResolveStep { result: raw(json!("by hand")) }),
            Call::Cancel => (None, OperatorAction::CancelTask),
            Call::Reopen => (None, OperatorAction::ReopenTask),
            Call::ResolveTask => (None, OperatorAction::ResolveTask),
            Call::Pause => (None, OperatorAction::PauseTask),
            Call::Resume => (None, OperatorAction::ResumeTask),
        };
        let target = (task, no.map(|no| task.step(no)));
        match self.rig.engine.operate(target, action, by("because"), Precondition::default()).await {
            // A repetition says that it is done, and has no effects.
            Ok(effects) => {
                !effects.steps.is_empty()
                    || matches!(call, Call::Pause | Call::Resume | Call::ResolveTask) && !self.repeats(before, call)
            }
            Err(OperatorError::Conflict { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn repeats(&self, before: &Definition, call: &Call) -> bool {
        match call {
            Call::Pause => before.paused,
            Call::Resume => !before.paused,
            _ => before.state == TaskState::ResolvedManually,
        }
    }

    async fn answer(&self, task: TaskId, before: &Definition, (no, lease): (StepNo, i32), said: &Said) -> bool {
        let outcome = said.outcome(&self.workflow, no);
        let (step_id, attempt) = (task.step(no), before.rows[&no].tries());
        let keys = [SigningKey { id: "test".into(), secret: vec![7; 32] }];
        let token = sign(&self.template, Lease { step: step_id, number: lease }, attempt, &keys);
        let answer = CompleteStep {
            v: VERSION,
            task_id: task,
            step_id,
            lease,
            attempt,
            token,
            worker: "scripted".into(),
            execution_time_ms: 1,
            correlation_id: None,
            traceparent: None,
            outcome,
        };
        match self.rig.complete(vec![answer]).await[0] {
            Answer::Accepted => true,
            Answer::Duplicate | Answer::Stale | Answer::Ignored => false,
            other => panic!("{other:?}"),
        }
    }

    async fn compare(&self, node: &Node) {
        node.definition.compare(&self.rig, node.task, || format!("{:?}", node.said)).await;
    }

    /// What the last calls dispatched was sent, once, and says what the rows say.
    async fn compare_messages(&self, nodes: &[Node]) {
        let said: BTreeMap<TaskId, &Vec<Call>> = nodes.iter().map(|node| (node.task, &node.said)).collect();
        let mut sent: BTreeSet<(TaskId, StepNo, i32)> =
            nodes.iter().flat_map(|node| node.sent.iter().map(|(no, lease)| (node.task, *no, *lease))).collect();
        let tasks: Vec<TaskId> = said.keys().copied().collect();
        let rows = messages::by_rows(&self.rig, &tasks).await;
        while self.rig.engine.queue().waiting() > 0 {
            for run in self.rig.receive_up_to(64).await {
                let (task, no) = (run.task_id, run.step_id.no);
                assert!(sent.remove(&(task, no, run.lease)), "{run:?} after {:?}", said.get(&task));
                assert_eq!(messages::said(&run), rows[&(task, no)], "after {:?}", said[&task]);
            }
        }
        assert!(sent.is_empty(), "not sent: {sent:?} after {:?}", sent.iter().map(|(task, ..)| said[task]).collect::<Vec<_>>());
    }
}
