//! Makes the model's calls on a database through the store, for many tasks at once, and compares the rows after each call. To let
//! time pass for one step, its `wake_at` moves into the past: the functions see no difference, and no other step is affected.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, value::RawValue};
use tasker_domain::{
    FailureEffect, Verdict, decide,
    decide::{Again, decide_lost},
    token::TemplateRef,
};
use tasker_store::{Change, Completion, DispatchSettings, NewTask, Operation, RunRow, Store, TemplateRows};
use tasker_test_support::Database;
use tasker_wire::{
    Outcome, StepState, TaskId,
    ids::{NUMBERS_PER_POSITION, step_no},
    message::Lease,
};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    machine::{is_answerable, is_live},
    model::{Answer, CRASHED, Call, Effects, LEASES, Model, NOT_APPLIED, Rows, Said, raw, result},
    shapes::{Shape, bits},
};

const SETTINGS: DispatchSettings = DispatchSettings { send_ms: Some(86_400_000), bodies: i32::MAX, input_bytes: 1 << 40 };
const BY: (&str, &str) = ("operator", "because");
/// What an operator gives as the result of a step.
const BY_HAND: &str = "\"by hand\"";

/// A task in the database, and its rows as the model has them.
#[derive(Debug, Clone, Copy)]
pub struct Twin {
    pub task: TaskId,
    pub rows: Rows,
    /// How its next success is applied.
    pub way: Way,
}

/// The function that applies a success. What else there is to apply goes through the general one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The one for a success by itself.
    Alone,
    /// The one for batches of successes.
    Successes,
    General,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Alone, Self::Successes, Self::General];

    /// Functions that may apply a call: all of them, or another one for each number.
    pub fn of(call: Call, number: usize, all: bool) -> impl Iterator<Item = Self> {
        let is_success = matches!(call, Call::Complete { said: Said::Success, .. });
        let ways = if is_success && all { 3 } else { 1 };
        (0..ways).map(move |n| if is_success { Self::ALL[(n + number) % 3] } else { Self::General })
    }
}

/// A database of its own, because a sweep takes everything that is due.
pub struct Replay {
    store: Store,
    sql: Client,
    clone: String,
    _db: Database,
}

/// What the database answered about one task.
#[derive(Debug, PartialEq)]
struct Seen {
    answer: Answer,
    sent: u8,
    finished: Option<tasker_wire::TaskState>,
}

impl Twin {
    fn of(task: TaskId, rows: Rows) -> Self {
        Self { task, rows, way: Way::General }
    }
}

impl Replay {
    pub async fn new() -> Self {
        let db = tasker_test_support::database().await;
        let store = Store::new(&db.url, 2).unwrap();
        let sql = db.client().await;
        let mut clone = String::from("with k as materialized (select * from unnest($1::uuid[], $2::uuid[]) k(old, new))");
        for table in ["attempts", "steps", "tasks"] {
            let columns = "select string_agg(attname, ', ' order by attnum) from pg_attribute \
                           where attrelid = ('tasker.' || $1::text)::regclass and attnum > 1 and not attisdropped";
            let columns: String = sql.query_one(columns, &[&table]).await.unwrap().get(0);
            let select = format!(
                "insert into tasker.{table} (task_id, {columns}) select k.new, {columns} from k, \
                 lateral (select * from tasker.{table} q where q.task_id = k.old offset 0) s"
            );
            let separator = if table == "tasks" { " " } else { &format!(", {table} as (") };
            clone += &format!("{separator}{select}{}", if table == "tasks" { "" } else { ")" });
        }
        Self { store, sql, clone, _db: db }
    }

    /// Plants a bug in a function of this database.
    pub async fn replace_in(&self, function: &str, right: &str, wrong: &str) {
        let sql = "select pg_get_functiondef(('tasker.' || $1::text)::regproc)";
        let text: String = self.sql.query_one(sql, &[&function]).await.unwrap().get(0);
        assert!(text.contains(right), "{function} does not say {right:?} any more");
        self.sql.batch_execute(&text.replace(right, wrong)).await.unwrap();
    }

    /// Inserts tasks of these models.
    pub async fn submit(&self, models: &[&Model]) -> Vec<Twin> {
        let new: Vec<NewTask> = models.iter().map(|m| new_task(m)).collect();
        let submitted = self.store.submit(&new, SETTINGS).await.unwrap();
        assert!(submitted.iter().all(|s| s.created && s.dispatched));
        let twins: Vec<Twin> = models.iter().zip(&submitted).map(|(m, s)| Twin::of(s.task, m.submitted())).collect();
        self.compare(&twins.iter().zip(models).map(|(t, m)| (*t, *m)).collect::<Vec<_>>(), |_| "submit".into()).await;
        twins
    }

    /// Copies of these tasks, with ids of their own.
    pub async fn copies(&self, of: &[Twin]) -> Vec<Twin> {
        let copies: Vec<Twin> = of.iter().map(|t| Twin { task: fresh(), ..*t }).collect();
        let ids = |twins: &[Twin]| twins.iter().map(|t| t.task.uuid()).collect::<Vec<_>>();
        self.sql.execute(&self.clone, &[&ids(of), &ids(&copies)]).await.unwrap();
        copies
    }

    /// Makes one call for each task, and compares the answer and the rows.
    pub async fn make(&self, jobs: &mut [(Twin, &Model, Call)]) {
        // Wake-ups separately: a sweep would take what is due for them.
        jobs.sort_by_key(|(twin, _, call)| (matches!(call, Call::Evaluate { .. }), twin.task));
        let wake_ups = jobs.partition_point(|(.., call)| !matches!(call, Call::Evaluate { .. }));
        let (others, wake_ups) = jobs.split_at_mut(wake_ups);
        self.make_at_once(others).await;
        self.make_at_once(wake_ups).await;
        jobs.sort_by_key(|(twin, ..)| twin.task);
    }

    async fn make_at_once(&self, jobs: &mut [(Twin, &Model, Call)]) {
        if jobs.is_empty() {
            return;
        }
        let mut past = Vec::new();
        for (twin, _, call) in jobs.iter() {
            past.extend(due(twin, Some(*call)));
        }
        self.set_wake_at(&past, "- interval '1 s'").await;
        let mut seen = self.carry_out(jobs).await;
        let mut future = Vec::new();
        for (twin, model, call) in jobs.iter_mut() {
            let before = twin.rows;
            let effects = model.apply(&mut twin.rows, *call);
            let seen = seen.remove(&twin.task).unwrap_or_else(Seen::nothing);
            assert_eq!(seen, Seen::expected(&effects), "{}: {call:?} of\n{}", model.shape, text(&before, &model.shape));
            future.extend(due(twin, None));
            if let Call::Evaluate { step, due: true, .. } = *call {
                let waits = twin.rows.steps[usize::from(step)].state == StepState::WaitingForRetry;
                future.extend(waits.then_some((twin.task, step)));
            }
        }
        let twins: Vec<(Twin, &Model)> = jobs.iter().map(|(twin, model, _)| (*twin, *model)).collect();
        self.compare(&twins, |place| format!("{:?}", jobs[place].2)).await;
        self.set_wake_at(&future, "+ interval '1 day'").await;
    }

    async fn carry_out(&self, jobs: &[(Twin, &Model, Call)]) -> HashMap<TaskId, Seen> {
        let mut seen = HashMap::new();
        let outcomes: Vec<Option<Outcome>> = jobs.iter().map(|(.., call)| outcome(*call)).collect();
        let (mut alone, mut successes, mut any) = (Vec::new(), Vec::new(), Vec::new());
        let (mut wake_ups, mut sweeps) = (Vec::new(), false);
        let mut models = HashMap::new();
        for ((twin, model, call), outcome) in jobs.iter().zip(&outcomes) {
            models.insert(twin.task, (twin, *model, *call));
            match *call {
                Call::Evaluate { step, lease, .. } => wake_ups.push(key(twin.task, step, lease)),
                Call::Sweep { .. } => sweeps = true,
                call if call.is_operators() => {}
                call => {
                    let is_success = matches!(call, Call::Complete { said: Said::Success, .. });
                    let batch = match if is_success { twin.way } else { Way::General } {
                        Way::Alone => &mut alone,
                        Way::Successes => &mut successes,
                        Way::General => &mut any,
                    };
                    batch.push(completion(twin, model, call, outcome.as_ref()));
                }
            }
        }
        if successes.len() == 1 {
            successes.insert(0, of_no_step(Verdict::Complete(RawValue::NULL)));
        }
        if any.iter().all(|c| matches!(c.verdict, Verdict::Complete(_))) && !any.is_empty() {
            any.insert(0, of_no_step(Verdict::DispatchAgain(Again::Released)));
        }
        let mut take = |completions: &[Completion<'_>], changes: Vec<Change>| {
            let keys: Vec<Lease> = completions.iter().map(|c| c.lease).collect();
            for change in changes {
                note(&mut seen, &keys, &models, change);
            }
        };
        for batch in [successes, any].iter().filter(|batch| !batch.is_empty()) {
            take(batch, self.store.complete(batch, SETTINGS).await.unwrap());
        }
        let (one, other) = alone.split_at(alone.len() / 2);
        let (changes, more) = tokio::join!(self.each_alone(one), self.each_alone(other));
        for (success, changes) in alone.iter().zip(changes.into_iter().chain(more)) {
            take(std::slice::from_ref(success), changes);
        }
        if !wake_ups.is_empty() {
            take(&[], self.store.dispatch(&wake_ups, SETTINGS).await.unwrap());
        }
        if sweeps {
            take(&[], self.store.sweep(100_000, SETTINGS).await.unwrap());
        }
        let actions = jobs.iter().filter(|job| job.2.is_operators()).map(|(twin, _, call)| (twin.task, *call));
        let (one, other): (Vec<_>, Vec<_>) = actions.enumerate().partition(|(n, _)| n % 2 == 0);
        let (one, other) = tokio::join!(self.act(one), self.act(other));
        for (task, changes) in one.into_iter().chain(other) {
            let answer = if matches!(changes[0], Change::Done(_)) { Answer::Done } else { Answer::Conflict };
            seen.insert(task, Seen { answer, ..Seen::nothing() });
            for change in changes {
                note(&mut seen, &[], &models, change);
            }
        }
        seen
    }

    async fn each_alone(&self, successes: &[Completion<'_>]) -> Vec<Vec<Change>> {
        let mut changes = Vec::with_capacity(successes.len());
        for success in successes {
            changes.push(self.store.complete(std::slice::from_ref(success), SETTINGS).await.unwrap());
        }
        changes
    }

    async fn act(&self, actions: Vec<(usize, (TaskId, Call))>) -> Vec<(TaskId, Vec<Change>)> {
        let mut answers = Vec::with_capacity(actions.len());
        for (_, (task, call)) in actions {
            let (verb, step) = match call {
                Call::Retry { step } => ("retry_step", Some(step)),
                Call::Resolve { step } => ("resolve_step", Some(step)),
                _ => ("cancel_task", None),
            };
            let args = format!(r#"{{"result": {BY_HAND}}}"#);
            let operation = Operation::new(verb, (task, step.map(|step| step_no(step.into()))), BY);
            answers.push((task, self.store.operate(Operation { args: &args, ..operation }, SETTINGS).await.unwrap()));
        }
        answers
    }

    async fn set_wake_at(&self, steps: &[(TaskId, u8)], when: &str) {
        if steps.is_empty() {
            return;
        }
        let sql = format!(
            "update tasker.steps s set wake_at = tasker.clock() {when} from unnest($1::uuid[], $2::int[]) k(task_id, no) \
             where s.task_id = any (array[k.task_id]) and s.no = k.no"
        );
        let tasks: Vec<Uuid> = steps.iter().map(|(task, _)| task.uuid()).collect();
        let nos: Vec<i32> = steps.iter().map(|(_, step)| step_no((*step).into())).collect();
        assert_eq!(self.sql.execute(&sql, &[&tasks, &nos]).await.unwrap(), steps.len() as u64);
    }

    /// The rows of these tasks are the model's.
    async fn compare(&self, twins: &[(Twin, &Model)], after: impl Fn(usize) -> String) {
        let sql = format!(
            "select concat_ws(E'\\n', t.state || ' active=' || t.active_steps || ' failed=' || t.failed_steps, s.text, a.text) \
             from unnest($1::uuid[]) with ordinality k(task_id, place) join tasker.tasks t using (task_id), \
             lateral (select string_agg(concat_ws(' ', q.no / {numbers} - 1, q.state, q.lease, q.attempt, q.pending_parents, q.losses, \
                 q.state = 'in_progress' and q.wake_at <= tasker.clock(), coalesce(q.result::text, '-'), q.wake_at is not null), \
                 E'\\n' order by q.no) as text from tasker.steps q where q.task_id = t.task_id offset 0) s, \
             lateral (select string_agg(concat_ws(' ', q.no / {numbers} - 1, q.lease, q.outcome, q.applied, q.digest), \
                 E'\\n' order by q.no, q.lease) as text from tasker.outcomes q where q.task_id = t.task_id offset 0) a \
             order by k.place",
            numbers = NUMBERS_PER_POSITION,
        );
        let ids: Vec<Uuid> = twins.iter().map(|(t, _)| t.task.uuid()).collect();
        let rows = self.sql.query(&sql, &[&ids]).await.unwrap();
        assert_eq!(rows.len(), twins.len());
        for (place, ((twin, model), row)) in twins.iter().zip(&rows).enumerate() {
            let (stored, expected) = (row.get::<_, String>(0), text(&twin.rows, &model.shape));
            assert!(stored == expected, "{}: after {}\n{stored}\n-- but the model has\n{expected}", model.shape, after(place));
        }
    }

    /// The doctor finds no difference in all rows.
    pub async fn check(&self) {
        let report = self.store.examine().await.unwrap();
        let differences = report.differences.iter().filter(|d| d.what != "template").collect::<Vec<_>>();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

impl Seen {
    fn nothing() -> Self {
        Self { answer: Answer::Nothing, sent: 0, finished: None }
    }

    fn expected(effects: &Effects) -> Self {
        Self { answer: effects.answer, sent: effects.sent, finished: effects.finished }
    }
}

/// The steps of a task that must be due for this call: those that are overdue, and the one of the call.
fn due(twin: &Twin, call: Option<Call>) -> Vec<(TaskId, u8)> {
    let is_due = |step: u8| {
        let row = &twin.rows.steps[usize::from(step)];
        row.due
            || match call {
                Some(Call::Sweep { step: swept }) => step == swept && is_live(row.state),
                // Also under an old lease: being due must not be enough.
                Some(Call::Evaluate { step: woken, due: true, .. }) => step == woken && row.state == StepState::WaitingForRetry,
                _ => false,
            }
    };
    (0..twin.rows.steps.len() as u8).filter(|&step| is_due(step)).map(|step| (twin.task, step)).collect()
}

type Jobs<'a> = HashMap<TaskId, (&'a Twin, &'a Model, Call)>;

/// Records one row of an answer for its task.
fn note(seen: &mut HashMap<TaskId, Seen>, completions: &[Lease], jobs: &Jobs, change: Change) {
    let mut of = |task: TaskId, change: &mut dyn FnMut(&mut Seen)| change(seen.entry(task).or_insert_with(Seen::nothing));
    match change {
        Change::Answer(place, applied) => of(completions[place].step.task, &mut |s| s.answer = Answer::Applied(applied)),
        Change::Finished(task, state) => of(task, &mut |s| s.finished = Some(state)),
        Change::Early(key, _) => of(key.step.task, &mut |s| s.answer = Answer::Early),
        Change::Run(run) => {
            let (twin, model, call) = jobs[&run.lease.step.task];
            check_message(twin, model, call, &run);
            of(run.lease.step.task, &mut |s| {
                let bit = 1 << position(run.lease);
                assert_eq!(s.sent & bit, 0, "sent twice");
                s.sent |= bit;
            });
        }
        // Every sweep reports every overdue step.
        Change::Lost(lost) => {
            if jobs[&lost.lease.step.task].2 == (Call::Sweep { step: position(lost.lease) as u8 }) {
                of(lost.lease.step.task, &mut |s| s.answer = Answer::Lost);
            }
        }
        Change::Task(_) | Change::Done(_) | Change::Conflict(..) | Change::Effect(_) | Change::Seen(_) => {}
        other => panic!("an answer that nothing asks for: {other:?}"),
    }
}

/// A message has the current lease, the attempt, and the results of the ancestors.
fn check_message(twin: &Twin, model: &Model, call: Call, run: &RunRow) {
    let mut rows = twin.rows;
    model.apply(&mut rows, call);
    let step = position(run.lease);
    let (lease, attempt) = (rows.steps[step].lease.into(), rows.steps[step].attempt.into());
    assert_eq!((run.lease.number, run.attempt), (lease, attempt), "{call:?}");
    let expected: serde_json::Map<String, Value> =
        bits(model.shape.ancestors(step)).map(|n| (format!("s{n}"), result_of(&rows, n))).collect();
    let seen = run.results.as_deref().map_or(Value::Object(Default::default()), |r| serde_json::from_str(r).unwrap());
    assert_eq!(seen, Value::Object(expected), "{call:?}: the results that step {step} sees");
}

fn result_of(rows: &Rows, step: usize) -> Value {
    match rows.steps[step].state {
        StepState::Complete => result(step as u8, rows.steps[step].lease),
        StepState::ResolvedManually => serde_json::from_str(BY_HAND).expect("it is JSON"),
        _ => Value::Null,
    }
}

/// The rows, in the format of the query in `compare`.
fn text(rows: &Rows, shape: &Shape) -> String {
    let mut lines = vec![format!("{} active={} failed={}", rows.task, rows.active, rows.failed)];
    let truth = |b: bool| if b { "t" } else { "f" };
    for (no, s) in rows.steps[..shape.steps].iter().enumerate() {
        let result = match result_of(rows, no) {
            Value::Null => "-".to_owned(),
            result => result.to_string(),
        };
        let (due, wakes) = (truth(s.due), truth(is_live(s.state)));
        let counts = format!("{} {} {} {}", s.lease, s.attempt, s.pending_parents, s.losses);
        lines.push(format!("{no} {} {counts} {due} {result} {wakes}", s.state));
    }
    for (no, step) in rows.steps.iter().enumerate() {
        for (lease, mark) in (1..=LEASES).map(|lease| (lease, step.mark(lease))).filter(|m| m.1 > 0) {
            let (kind, applied) = if mark > NOT_APPLIED { (mark - NOT_APPLIED, false) } else { (mark, true) };
            let outcome = match kind {
                1 => "success",
                4 => "released",
                _ => "failure",
            };
            lines.push(format!("{no} {lease} {outcome} {} {kind}", truth(applied)));
        }
    }
    lines.join("\n")
}

/// What a worker says.
fn outcome(call: Call) -> Option<Outcome> {
    match call {
        Call::Complete { step, lease, said } => Some(said.outcome(step, lease)),
        Call::Report { .. } => Some(Outcome::Started {}),
        _ => None,
    }
}

fn completion<'a>(twin: &Twin, model: &Model, call: Call, outcome: Option<&'a Outcome>) -> Completion<'a> {
    let attempt_of = |step: u8| i32::from(twin.rows.steps[usize::from(step)].attempt);
    let (step, lease, verdict, mark, if_due) = match (call, outcome) {
        (Call::Complete { step, lease, said }, Some(outcome)) => {
            (step, lease, decide(outcome, &model.policy, attempt_of(step), 0.5), said.mark(), false)
        }
        (Call::Report { step, lease }, Some(started)) => {
            (step, lease, decide(started, &model.policy, attempt_of(step), 0.5), 0, false)
        }
        (Call::Conclude { step, lease, losses }, None) => {
            (step, lease, decide_lost(i32::from(losses) + 1, &model.policy, attempt_of(step), 0.5), CRASHED, true)
        }
        _ => unreachable!("only completions come here"),
    };
    Completion {
        lease: key(twin.task, step, lease),
        attempt: attempt_of(step),
        verdict,
        digest: mark.into(),
        worker: "model".into(),
        duration_ms: 1,
        if_due,
        metadata: None,
        failure_effect: FailureEffect::default(),
        has_place: false,
    }
}

/// A completion that is refused. With it a batch is not of one success, or not of successes only.
fn of_no_step(verdict: Verdict<'static>) -> Completion<'static> {
    let first = TaskId::from_fresh(Uuid::from_u128(7 << 100));
    Completion::by_orchestrator(key(first, 0, 1), 1, verdict)
}

fn key(task: TaskId, step: u8, lease: u8) -> Lease {
    Lease { step: task.step(step_no(step.into())), number: lease.into() }
}

fn position(key: Lease) -> usize {
    key.step.position().expect("a step of the task")
}

fn fresh() -> TaskId {
    TaskId::from_fresh(Uuid::now_v7())
}

fn new_task(model: &Model) -> NewTask {
    let shape = &model.shape;
    let list = |set: u8| {
        let numbers: Vec<String> = bits(set).map(|n| step_no(n).to_string()).collect();
        format!("{{{}}}", numbers.join(","))
    };
    let each = |f: &dyn Fn(usize) -> String| (0..shape.steps).map(f).collect::<Vec<_>>();
    let rows = TemplateRows {
        template: TemplateRef { template_id: Uuid::nil(), environment: "test".into() },
        identity: ["default".into(), "model".into(), "1.0.0".into()],
        no: (0..shape.steps).map(step_no).collect(),
        name: each(&|n| format!("s{n}")),
        max_attempts: vec![model.policy.max_attempts; shape.steps],
        parents: each(&|n| list(shape.parents[n])),
        children: each(&|n| list(shape.children[n])),
        further_ancestors: each(&|n| list(shape.ancestors(n) & !shape.parents[n])),
        roots: model.roots().count_ones() as i32,
    };
    NewTask {
        task: fresh(),
        rows: Arc::new(rows),
        identity: None,
        context: raw(Value::Null).into(),
        priority: None,
        tags: Vec::new(),
        initiator: "model".into(),
        source_system: "model".into(),
        reason: "model".into(),
        correlation_id: Uuid::nil(),
        parent_correlation_id: None,
        traceparent: None,
    }
}

/// Calls that may reach the database in these rows: under the current lease, under the previous one, and under one that was never
/// given.
pub fn conceivable(model: &Model, rows: &Rows) -> Vec<Call> {
    let mut calls = vec![Call::Cancel];
    for step in 0..model.shape.steps as u8 {
        let row = &rows.steps[usize::from(step)];
        calls.extend([Call::Retry { step }, Call::Resolve { step }]);
        if is_live(row.state) {
            calls.push(Call::Sweep { step });
        }
        for lease in [row.lease + 1, row.lease, row.lease.saturating_sub(1)].into_iter().filter(|&l| l > 0) {
            let current = lease == row.lease && is_answerable(row.state);
            let said: &[Said] = if current { &Said::ALL } else { &[Said::Success, Said::Retryable] };
            calls.extend(said.iter().map(|&said| Call::Complete { step, lease, said }));
            calls.push(Call::Report { step, lease });
            calls.push(Call::Evaluate { step, lease, due: true });
            calls.push(Call::Conclude { step, lease, losses: row.losses.min(2) });
            if lease == row.lease {
                calls.push(Call::Evaluate { step, lease, due: false });
            }
        }
    }
    calls
}
