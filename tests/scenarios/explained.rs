//! Random lives of tasks, explained before each call. What was said is compared with what then happens: a step that waits for another one
//! does not start before that has changed, a time is the time at which the sweep moves the step or a threshold ends the task, what does not
//! move by itself does not, and what an operator is told to do moves the step. At the end of a life nobody acts any more: exactly what its
//! task said moves.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tasker_domain::explain::{Act, ExplainedStep, Explanation, Said};
use tasker_engine::{Engine, EngineSettings, OperatorAction, Precondition};
use tasker_queue::InProcess;
use tasker_store::{PauseScope, Store};
use tasker_test_support::Chance;
use tasker_wire::{Answer, Outcome, Remedy, RunStep, StepReason, TaskReason, TaskState};

use crate::{
    lives::{Life, template},
    rig::{Plant, Rig, by, failure, permanent},
};

mod one_by_one;
mod planted;

/// The calls of a life.
const CALLS: usize = 60;
/// Lives in which everything is said once. Random ones follow: so many, and as many more as it takes if these no longer do.
const SAYING_ALL: [usize; 9] = [0, 1, 2, 4, 7, 10, 13, 18, 65];
const LIVES: usize = 10;
const MOST_LIVES: usize = 300;

/// What cannot be said of the steps of a sound database.
const NEVER_SAID: StepReason = StepReason::Unexplained;
/// What is said of a task whose template is lost.
const NOT_LIVED: TaskReason = TaskReason::NoTemplate;

/// A bug in what is said.
type Twist = fn(&mut Explanation);

/// A step's row, as far as it says whether the step moved.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    no: i32,
    state: String,
    lease: i32,
    losses: i32,
    attempt: i32,
    tolerated: bool,
    awaits_callback: bool,
    wake_at: Option<jiff::Timestamp>,
}

impl Row {
    fn is_done(&self) -> bool {
        matches!(self.state.as_str(), "complete" | "resolved_manually") || self.tolerated
    }

    fn has_place(&self) -> bool {
        matches!(self.state.as_str(), "enqueued" | "in_progress" | "waiting_for_retry")
            || self.state == "pending" && self.wake_at.is_some()
    }

    /// Whether it was dispatched meanwhile.
    fn started_after(&self, before: &Self) -> bool {
        self.lease > before.lease && self.state == "enqueued"
    }

    fn moved_after(&self, before: &Self) -> bool {
        (&self.state, self.lease, self.losses, self.awaits_callback)
            != (&before.state, before.lease, before.losses, before.awaits_callback)
    }
}

type Rows = BTreeMap<String, Row>;

/// The number of steps of which a sentence says this: `… 3 steps wait for …`.
fn counted_in(sentence: &str, what: &str) -> usize {
    let Some((said, _)) = sentence.split_once(what) else { return 0 };
    let words: Vec<&str> = said.split(' ').collect();
    let noun = words.iter().rposition(|word| matches!(*word, "step" | "steps")).expect("steps are counted");
    words[noun - 1].parse().expect("a number")
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Caller {
    Worker,
    Time,
    Operator,
}

struct Explained {
    life: Life,
    /// An engine that does nothing, and knows of no workers of the pool `default`.
    elsewhere: Arc<Engine<InProcess>>,
    twist: Option<Twist>,
    steps_said: HashSet<StepReason>,
    tasks_said: HashSet<TaskReason>,
}

#[tokio::test]
async fn what_is_said_of_random_lives_is_what_then_happens() {
    let mut chance = Chance::of_run("TASKER_LIVES_SEED");
    let (mut steps, mut tasks) = (HashSet::new(), HashSet::new());
    let missing = |steps: &HashSet<StepReason>, tasks: &HashSet<TaskReason>| {
        let steps = StepReason::ALL.iter().filter(|&reason| *reason != NEVER_SAID && !steps.contains(reason));
        let tasks = TaskReason::ALL.iter().filter(|&reason| *reason != NOT_LIVED && !tasks.contains(reason));
        steps.map(|reason| reason.as_str()).chain(tasks.map(|reason| reason.as_str())).collect::<Vec<_>>()
    };
    for life in 0..MOST_LIVES {
        if life >= SAYING_ALL.len() + LIVES && missing(&steps, &tasks).is_empty() {
            println!("everything was said in {life} lives");
            return;
        }
        let (life, seed) = SAYING_ALL.get(life).map_or_else(|| (life, chance.number()), |&known| (known, known as u64));
        if let Some(lived) = live(life, Chance::new(seed), &[], None).await {
            steps.extend(lived.steps_said);
            tasks.extend(lived.tasks_said);
        }
    }
    panic!("never said: {:?}", missing(&steps, &tasks));
}

async fn live(life: usize, mut chance: Chance, plants: &[Plant], twist: Option<Twist>) -> Option<Explained> {
    let (decisions, batches) = [(4, 3), (0, 5), (5, 0), (0, 0)][life % 4];
    let yaml = with_thresholds(with_retries(template(&mut chance, decisions, batches), &mut chance), &mut chance);
    let mut life = Life::of(format!("explained {life}"), &yaml, chance, plants).await?;
    life.rig.stop_clock().await;
    let begins = "update tasker.tasks set created_at = tasker.clock(); update tasker.steps set dispatched_at = tasker.clock()";
    life.rig.execute(&format!("{begins} where state = 'enqueued'")).await;
    life.take().await;
    let elsewhere = knows_no_default(&life.rig);
    let mut explained = Explained { life, elsewhere, twist, steps_said: HashSet::new(), tasks_said: HashSet::new() };
    explained.run().await;
    Some(explained)
}

/// Steps wait for their retries, and some name a pool.
fn with_retries(mut template: Value, chance: &mut Chance) -> Value {
    for step in template["steps"].as_array_mut().unwrap() {
        let base_ms = chance.one_of(vec![10_000, 10_000, 100_000]);
        step["retry"] = json!({"backoff": "linear", "backoff_base_ms": base_ms, "max_attempts": 1 + chance.below(3)});
        if chance.permille(100) {
            step["worker"] = json!("default");
        }
    }
    template
}

/// Most tasks may take only minutes.
fn with_thresholds(mut template: Value, chance: &mut Chance) -> Value {
    if chance.permille(700) {
        template["lifecycle"] = json!({"staleness_action": chance.one_of(vec!["dlq", "error", "error", "none"])});
        for key in ["max_duration", "max_steps_in_process", "max_waiting_for_retry", "max_waiting_for_dependencies"] {
            if chance.permille(400) {
                template["lifecycle"][format!("{key}_minutes")] = json!(1 + chance.below(3));
            }
        }
    }
    template
}

fn knows_no_default(rig: &Rig) -> Arc<Engine<InProcess>> {
    let settings = EngineSettings {
        environment: "test".into(),
        signing_keys: Vec::new(),
        pools: HashSet::from(["other".to_owned()]),
        revise_templates: false,
        seed: 1,
        send_lease: None,
        in_process: Some(InProcess::default()),
    };
    Engine::new(Store::new(&rig.db.url, 1).unwrap(), InProcess::default(), settings)
}

impl Explained {
    async fn run(&mut self) {
        for _ in 0..CALLS {
            let (before, said) = (self.rows().await, self.explain().await);
            self.is_complete(&before, &said);
            // What says most is tried soonest.
            let soon = if said.task.sentence.contains(" for such steps") { 500 } else { 60 };
            if said.task.reason == TaskReason::Failing && self.life.chance.permille(soon) {
                break;
            }
            let caller = match self.life.chance.below(100) {
                0..40 => self.answer().await,
                40..52 => self.report().await,
                52..64 => {
                    self.life.operate().await;
                    Caller::Operator
                }
                64..70 => self.pause_or_resume().await,
                70..73 => self.end_or_give_up(&said).await,
                73..76 => self.make_late().await,
                76..83 => self.step_in_time(&before, &said).await,
                83..88 => self.all_in_time(&before, &said).await,
                88..94 => self.task_in_time(&before, &said).await,
                _ => self.do_as_told(&said).await,
            };
            self.life.take().await;
            let after = self.rows().await;
            self.keeps(&before, &said, &after, caller).await;
        }
        self.run_out().await;
        self.life.check().await;
    }

    fn fail(&self, what: &str, said: impl std::fmt::Debug) -> ! {
        panic!("{what}: {said:#?}\n{}", self.life.history())
    }

    async fn rows(&self) -> Rows {
        let sql = "select name, no, state, lease, losses, attempt, tolerated, awaits_callback, wake_at from tasker.steps";
        let rows = self.life.rig.sql.query(sql, &[]).await.unwrap();
        let row = |row: &tokio_postgres::Row| Row {
            no: row.get("no"),
            state: row.get("state"),
            lease: row.get("lease"),
            losses: row.get("losses"),
            attempt: row.get("attempt"),
            tolerated: row.get("tolerated"),
            awaits_callback: row.get("awaits_callback"),
            wake_at: row.get("wake_at"),
        };
        rows.iter().map(|r| (r.get("name"), row(r))).collect()
    }

    async fn explain(&mut self) -> Explanation {
        let engine = if self.life.chance.permille(300) { &self.elsewhere } else { &self.life.rig.engine };
        let mut said = engine.explain(self.life.task).await.unwrap().unwrap();
        if let Some(twist) = self.twist {
            twist(&mut said);
        }
        self.steps_said.extend(said.steps.iter().map(|step| step.said.reason));
        self.tasks_said.insert(said.task.reason);
        said
    }

    /// Every step that is not done is explained, by names and times that are those of the rows.
    fn is_complete(&self, rows: &Rows, said: &Explanation) {
        let expected: Vec<&String> = rows
            .iter()
            .filter(|(_, row)| !matches!(row.state.as_str(), "complete" | "resolved_manually"))
            .map(|(name, _)| name)
            .collect();
        let mut explained: Vec<&String> = said.steps.iter().map(|step| &step.name).collect();
        explained.sort_unstable();
        if (&explained, said.not_listed) != (&expected, 0) {
            self.fail("not explained", (expected, said));
        }
        for step in &said.steps {
            let Said { reason, waits_for, changes_at, .. } = &step.said;
            let row = &rows[&step.name];
            use StepReason::*;
            let waits = matches!(reason, Blocked | BatchStopped | WaitingForPlace | WaitingForDecision | WaitingForParents);
            let is_waited_for = |name: &String| match reason {
                WaitingForPlace => rows[name].has_place(),
                BatchStopped => rows[name].state == "error",
                _ => !rows[name].is_done(),
            };
            let names_are_right = waits_for.is_empty() != waits && waits_for.iter().all(is_waited_for) || *reason == Cancelled;
            let sentence = &step.said.sentence;
            let ends_before = sentence.contains(" ends its task, ") && *changes_at < row.wake_at;
            let time_is_right = changes_at.is_none() || *changes_at == row.wake_at || ends_before;
            let attempt_is_right =
                !sentence.contains(" in attempt ") || sentence.contains(&format!(" in attempt {} of ", row.attempt));
            if !names_are_right || !time_is_right || !attempt_is_right || *reason == NEVER_SAID {
                self.fail("not as the rows say", (step, rows));
            }
            let moves = matches!(reason, WaitingForPlace | WaitingForDecision | WaitingForParents | WaitingForWorker | Running);
            if moves && said.state.is_finished() {
                self.fail("nothing moves in a task that is finished", step);
            }
        }
    }

    /// What is said not to happen has not happened.
    async fn keeps(&self, before: &Rows, said: &Explanation, after: &Rows, caller: Caller) {
        let paused = self.is_paused().await;
        for ExplainedStep { name, said, .. } in &said.steps {
            // A step that was deleted and made again is another one.
            let Some(row) = after.get(name) else { continue };
            let was = &before[name];
            let ended = |name: &String| after.get(name).is_none_or(Row::is_done);
            let changed = |name: &String| after.get(name).is_none_or(|row| row.moved_after(&before[name]));
            use StepReason::*;
            let may_start = match said.reason {
                WaitingForParents | WaitingForDecision => said.waits_for.iter().all(ended),
                WaitingForPlace => said.waits_for.iter().any(changed),
                BatchStopped => caller == Caller::Operator,
                Blocked => caller == Caller::Operator && said.waits_for.iter().all(ended),
                Held => !paused,
                Abandoned => false,
                Failed | Cancelled | Tolerated => caller == Caller::Operator,
                WaitingForRetry | Resuming => caller != Caller::Worker || said.changes_at.is_some(),
                WaitingForCallback | Running | Silent | WaitingForWorker | NoWorkers | DeadLetter | Unexplained => true,
            };
            if row.started_after(was) && !may_start {
                self.fail("started too early", (name, said, was, row, caller));
            }
            let is_stuck = matches!(said.reason, Failed | Cancelled | Tolerated | BatchStopped | Abandoned);
            let is_ended = caller == Caller::Time && row.state == "cancelled";
            if is_stuck && caller != Caller::Operator && !is_ended && row.moved_after(was) {
                self.fail("moved without an operator", (name, said, was, row));
            }
        }
    }

    async fn is_paused(&self) -> bool {
        let sql = "select exists (select from tasker.pauses) or exists (select from tasker.tasks where paused_at is not null)";
        self.life.rig.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn answer(&mut self) -> Caller {
        if self.life.held.is_empty() {
            return Caller::Worker;
        }
        let run = self.life.held.swap_remove(self.life.chance.below(self.life.held.len()));
        let outcome = match self.life.chance.below(100) {
            0..10 => permanent("no"),
            10..30 => failure("not now"),
            30..34 => Outcome::Released {},
            _ => self.life.success_of(&run, false),
        };
        self.life.say(format!("answer {} lease {}: {outcome:?}", run.step_name, run.lease));
        self.life.rig.answer(&run, outcome).await;
        Caller::Worker
    }

    /// A worker says that it started, or that a callback will come. Its dispatch stays.
    async fn report(&mut self) -> Caller {
        if self.life.held.is_empty() {
            return Caller::Worker;
        }
        let run = self.life.held[self.life.chance.below(self.life.held.len())].clone();
        let outcome = match self.life.chance.permille(500) {
            true => Outcome::Started {},
            false => Outcome::PendingCallback { timeout_seconds: 60 },
        };
        self.life.say(format!("report {} lease {}: {outcome:?}", run.step_name, run.lease));
        self.life.rig.answer(&run, outcome).await;
        Caller::Worker
    }

    fn scope(&mut self) -> PauseScope {
        let template = self.life.chance.permille(500).then(|| "life".to_owned());
        PauseScope { namespace: "default".into(), template }
    }

    async fn pause_or_resume(&mut self) -> Caller {
        let (scope, pauses) = (self.scope(), self.life.chance.permille(400));
        self.life.say(format!("pause {pauses} {scope:?}"));
        let engine = &self.life.rig.engine;
        match pauses {
            true => engine.pause(scope, by("because"), false).await.unwrap(),
            false => engine.resume(scope, by("enough"), false).await.unwrap(),
        };
        Caller::Operator
    }

    /// The message of a step is given up, an entry is closed, or a failed task is resolved.
    async fn end_or_give_up(&mut self, said: &Explanation) -> Caller {
        if said.state == TaskState::Error && self.life.chance.permille(900) {
            self.operate(None, OperatorAction::ResolveTask).await;
            return Caller::Operator;
        }
        if self.life.chance.permille(500) {
            let close = "set status = 'permanently_failed', resolved_at = tasker.clock() where status = 'pending'";
            self.life.rig.execute(&format!("update tasker.dlq_entries {close} and reason = 'staleness_timeout'")).await;
        }
        self.life.rig.engine.store().close_dlq_entries().await.unwrap();
        if let Some(run) = self.life.held.first() {
            let (step, snapshot) = (run.step_id, json!({"lease": run.lease}).to_string());
            self.life.rig.engine.store().open_dlq_entry(step, "poison", &snapshot).await.unwrap();
        }
        Caller::Worker
    }

    /// The time of a step comes, and the sweep does not.
    async fn make_late(&mut self) -> Caller {
        self.life.say("late".into());
        self.set_wake("where wake_at is not null and state in ('in_progress', 'waiting_for_retry')", 0).await;
        Caller::Time
    }

    async fn set_wake(&self, which: &str, ms: i64) {
        self.life.rig.execute(&format!("update tasker.steps set wake_at = tasker.clock_after({ms}) {which}")).await;
    }

    /// One of the steps of which such a thing is said. Their order does not depend on times, which are not the same in each run.
    fn one_of<'a>(&mut self, said: &'a Explanation, which: impl Fn(&Said<StepReason>) -> bool) -> Option<&'a ExplainedStep> {
        let mut steps: Vec<&ExplainedStep> = said.steps.iter().filter(|step| which(&step.said)).collect();
        steps.sort_by_key(|step| step.no);
        (!steps.is_empty()).then(|| steps[self.life.chance.below(steps.len())])
    }

    /// The time of one step comes: a moment before it nothing happens to it, and then what was said.
    async fn step_in_time(&mut self, before: &Rows, said: &Explanation) -> Caller {
        let Some(step) = self.one_of(said, |step| step.changes_at.is_some()) else { return Caller::Time };
        let (row, which) = (&before[&step.name], format!("where no = {}", step.no));
        self.life.say(format!("the time of {}", step.name));
        if row.wake_at > Some(said.now) {
            self.set_wake(&which, 1).await;
            self.life.rig.engine.sweep().await.unwrap();
            self.life.take().await;
            if self.rows().await.get(&step.name).is_none_or(|now| now.lease != row.lease || now.state != row.state) {
                // Another step that was due may have ended its batch.
                return Caller::Time;
            }
            self.set_wake(&which, 0).await;
        }
        self.life.rig.engine.sweep().await.unwrap();
        let after = self.rows().await.remove(&step.name);
        let Some(now) = after.filter(|now| now.moved_after(row)) else { self.fail("did not move in time", step) };
        let sentence = &step.said.sentence;
        let expected = if sentence.contains("another one follows") {
            "waiting_for_retry"
        } else if sentence.contains("fails for good") || sentence.contains("its batch goes on without it") {
            "error"
        } else if sentence.contains("holds it then") {
            "pending"
        } else {
            "enqueued"
        };
        let is_same_attempt = !sentence.contains("the same attempt") || now.attempt == row.attempt;
        if now.state != expected && now.state != "cancelled" || !is_same_attempt {
            self.fail("did something else than was said", (step, row, now));
        }
        Caller::Time
    }

    /// All times come: what was said to move by itself moves, and if nothing was, nothing is sent.
    async fn all_in_time(&mut self, before: &Rows, said: &Explanation) -> Caller {
        self.life.say("all in time".into());
        self.set_wake("where wake_at is not null", 0).await;
        self.life.rig.engine.sweep().await.unwrap();
        let after = self.rows().await;
        let moved = |name: &String| after.get(name).is_none_or(|row| row.moved_after(&before[name]));
        for step in said.steps.iter().filter(|step| step.said.changes_at.is_some()) {
            if !moved(&step.name) {
                self.fail("did not move in time", step);
            }
        }
        let is_still = said.steps.iter().all(|step| step.said.changes_at.is_none());
        if is_still && (before.keys().any(moved) || self.life.rig.engine.queue().waiting() > 0) {
            self.fail("moved by itself", (said, before, after));
        }
        Caller::Time
    }

    /// The time of the task comes: a moment before it nothing happens, and then what was said. Without a time nothing happens for long.
    async fn task_in_time(&mut self, before: &Rows, said: &Explanation) -> Caller {
        self.life.say(format!("the time of the task: {}", said.task.sentence));
        let moment = Duration::from_millis(1);
        let wait = said.task.changes_at.map(|at| Duration::try_from(at.duration_since(said.now)).unwrap_or_default());
        let entries = self.entries().await;
        let quiet = wait.map_or(Duration::from_secs(3600), |wait| wait.saturating_sub(moment));
        if !quiet.is_zero() {
            self.life.rig.pass(quiet).await;
            let after = self.sweep_and_look().await;
            if after != (said.state, entries) || self.has_moved(before).await {
                self.fail("moved before its time", said);
            }
        }
        let Some(wait) = wait else { return Caller::Time };
        self.life.rig.pass(wait - quiet).await;
        let (state, opened) = self.sweep_and_look().await;
        let is_due = |step: &ExplainedStep| step.said.changes_at.is_some() && before[&step.name].wake_at <= said.task.changes_at;
        let kept = if said.steps.iter().any(is_due) {
            (state, opened) != (said.state, entries) || self.has_moved(before).await
        } else if said.task.sentence.contains("ends it as error") {
            state == TaskState::Error && self.rows().await.values().all(|row| row.wake_at.is_none())
        } else {
            said.task.sentence.contains("opens a DLQ entry") && (state, opened) == (said.state, entries + 1)
        };
        if !kept {
            self.fail("did something else than was said of the task", (said, state, opened - entries));
        }
        Caller::Time
    }

    /// What a sweep and a look for stale tasks lead to: the state of the task, and the number of its entries.
    async fn sweep_and_look(&mut self) -> (TaskState, i64) {
        self.life.rig.engine.sweep().await.unwrap();
        self.life.rig.engine.look_for_stale(|| false).await.unwrap();
        self.life.take().await;
        (self.life.rig.state(self.life.task).await, self.entries().await)
    }

    async fn entries(&self) -> i64 {
        self.life.rig.count("select count(*) from tasker.dlq_entries where reason = 'staleness_timeout'").await
    }

    async fn has_moved(&self, before: &Rows) -> bool {
        let after = self.rows().await;
        before.iter().any(|(name, was)| after.get(name).is_none_or(|row| row.moved_after(was)))
    }

    /// Nobody acts any more, and all that runs succeeds: what a failing task said is what then happens.
    async fn run_out(&mut self) {
        let (before, said) = (self.rows().await, self.explain().await);
        let is_paused = self.is_paused().await;
        self.life.say(format!("nobody acts: {}", said.task.sentence));
        loop {
            if self.life.held.is_empty() {
                self.set_wake("where wake_at is not null and state in ('waiting_for_retry', 'pending')", 0).await;
                self.life.rig.engine.sweep().await.unwrap();
            }
            self.life.take().await;
            let Some(run) = self.life.held.pop() else { break };
            let outcome = self.life.success_of(&run, false);
            self.life.say(format!("succeed {} lease {}: {outcome:?}", run.step_name, run.lease));
            self.life.rig.answer(&run, outcome).await;
        }
        if said.task.reason != TaskReason::Failing {
            return;
        }
        let after = self.rows().await;
        let waits = |row: &Row| matches!(row.state.as_str(), "pending" | "waiting_for_retry");
        let moves = |row: &Row| if is_paused { row.has_place() && !waits(row) } else { row.has_place() };
        let followed = before.iter().filter(|(name, was)| !moves(was) && after[*name].moved_after(was)).count();
        let stayed = before.iter().filter(|(name, was)| waits(was) && !after[*name].moved_after(was)).count();
        let count = |what: &str| counted_in(&said.task.sentence, what);
        let is_open = said.task.sentence.contains(" is not decided yet.");
        let (follow, stay) = (count(" for such steps only"), count(" cannot start before ") + count(" never start"));
        let is_blocked = |step: &&ExplainedStep| matches!(step.said.reason, StepReason::Blocked | StepReason::BatchStopped);
        let blocked: Vec<&String> = said.steps.iter().filter(is_blocked).map(|step| &step.name).collect();
        let are_blocked =
            blocked.len() == count(" never start") && blocked.iter().all(|name| !after[*name].moved_after(&before[*name]));
        let follows = if is_open { follow <= followed && stay <= stayed } else { (follow, stay) == (followed, stayed) };
        let fails =
            !said.task.sentence.contains(", and the task fails") || self.life.rig.state(self.life.task).await == TaskState::Error;
        if before.values().filter(|row| moves(row)).count() != count(" can still move") || !are_blocked || !follows || !fails {
            self.fail("the task did not keep what it said", (said, before, after, is_paused));
        }
    }

    /// An operator does what is said to help, which moves the step.
    async fn do_as_told(&mut self, said: &Explanation) -> Caller {
        let Some(ExplainedStep { name, said, .. }) = self.one_of(said, |step| step.act.is_some()) else {
            return Caller::Operator;
        };
        let act = said.act.as_ref().unwrap();
        self.life.say(format!("as told {act:?} for {name}: {}", said.sentence));
        let before = self.rows().await;
        self.carry_out(act, name).await;
        self.life.take().await;
        let after = self.rows().await;
        let moved = |name: &str| after.get(name).is_none_or(|row| row.moved_after(&before[name]));
        use StepReason::*;
        let has_helped = match (said.reason, act.remedy) {
            // It is not due, or waits for the one that is helped.
            (
                WaitingForRetry | WaitingForParents | WaitingForDecision,
                Remedy::Resume | Remedy::ResumeTemplate | Remedy::ResumeNamespace,
            ) => true,
            (Blocked | BatchStopped | WaitingForParents | WaitingForDecision, Remedy::Retry) => moved(act.step.as_ref().unwrap()),
            // What holds it up begins anew.
            (Blocked | BatchStopped, Remedy::Reopen) => before.keys().any(|name| moved(name)),
            // The task must be reopened first.
            (Failed, Remedy::Reopen) => before.keys().any(|name| moved(name)) && act.sentence.contains("then retry"),
            (WaitingForParents | WaitingForDecision, _) => true,
            _ => moved(name),
        };
        if !has_helped {
            self.fail("did not help", (said, before, after));
        }
        Caller::Operator
    }

    async fn carry_out(&mut self, act: &Act, name: &str) {
        match act.remedy {
            Remedy::Retry => self.operate(act.step.clone(), OperatorAction::RetryStep { inputs: None }).await,
            Remedy::Reopen => self.operate(None, OperatorAction::ReopenTask).await,
            Remedy::Resume | Remedy::ResumeTemplate | Remedy::ResumeNamespace => self.end_pauses(act.remedy).await,
            Remedy::StartWorkers | Remedy::ExamineDeadLetters => {
                let name = act.step.as_deref().unwrap_or(name);
                let lease = self.rows().await[name].lease;
                let is_it = |run: &RunStep| run.step_name == name && run.lease == lease;
                let at = self.life.held.iter().position(is_it).expect("what is dispatched was sent");
                let run = self.life.held.swap_remove(at);
                let outcome = self.life.success_of(&run, false);
                assert_eq!(self.life.rig.answer(&run, outcome).await, Answer::Accepted);
            }
            Remedy::RunDoctor => self.fail("nobody is told so", act),
        }
    }

    /// Ends the pause that was named, and those that are then named.
    async fn end_pauses(&mut self, first: Remedy) {
        let mut next = Some(first);
        while let Some(remedy) = next {
            let scope = |template| PauseScope { namespace: "default".into(), template };
            let of_template = scope(Some("life".to_owned()));
            let engine = self.life.rig.engine.clone();
            let ended = match remedy {
                Remedy::Resume => {
                    self.operate(None, OperatorAction::ResumeTask).await;
                    true
                }
                Remedy::ResumeTemplate => engine.resume(of_template, by("as told"), false).await.unwrap().pause.is_some(),
                _ => engine.resume(scope(None), by("as told"), false).await.unwrap().pause.is_some(),
            };
            assert!(ended, "there was no such pause: {remedy}\n{}", self.life.history());
            let said = self.explain().await;
            next = said
                .steps
                .iter()
                .find(|step| step.said.reason == StepReason::Held)
                .and_then(|step| Some(step.said.act.as_ref()?.remedy));
        }
        self.life.rig.engine.sweep().await.unwrap();
    }

    /// An operator's action, which is not refused.
    async fn operate(&self, step: Option<String>, action: OperatorAction) {
        let step = match step {
            Some(name) => Some(self.life.rig.step_id(self.life.task, &name).await),
            None => None,
        };
        let verb = action.verb();
        let done = self.life.rig.engine.operate((self.life.task, step), action, by("as told"), Precondition::default()).await;
        done.unwrap_or_else(|error| panic!("{verb}: {error}\n{}", self.life.history()));
    }
}
