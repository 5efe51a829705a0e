//! Random lives of tasks whose steps come while they run: answers, repeated answers, operators and sweeps, in any order. After each call the
//! rows are those of the [`Definition`], and every counter agrees with them.

use std::collections::HashMap;

use serde_json::{Value, json, value::RawValue};
use tasker_domain::{
    Created,
    template::{FailureStrategy, StepKind, Workflow, parse},
};
use tasker_engine::{OperatorAction, OperatorError, Precondition};
use tasker_queue::{InProcess, Queue};
use tasker_test_support::Chance;
use tasker_wire::{Answer, Outcome, RunStep, StepNo, TaskId, TaskState, ids::position};

use crate::{
    definition::{Call, Definition, Said},
    messages,
    remote_queue::RemoteQueue,
    rig::{Plant, Rig, by, failure, permanent, raw, success, workflow},
};

/// The calls of a life.
const CALLS: usize = 60;
/// The lives of a test.
const LIVES: usize = 15;

/// Calls hold their locks a little longer.
const SLOWLY: Plant =
    ("advance_v1", "  if k_task is not null then", "  perform pg_sleep(random() * 0.006);\n  if k_task is not null then");

/// Bugs that a life finds, each with the seed of one that finds it.
const PLANTS: [(u64, Plant); 21] = [
    (5_190_755_929_391_455_092, ("advance_v1", "0 <> any (d_failed)", "1 = any (d_failed)")),
    (7_464_689_974_024_156_446, ("advance_v1", " or -1 <> any (d_active)", "")),
    (11_720_195_158_568_181_187, ("redo_step", "greatest(t.lease_base, (", "least(t.lease_base, (")),
    (2_058_836_708_527_681_468, ("redo_step", "array[-active]", "array[0]")),
    (13_868_230_654_334_134_236, ("keep_answers", "where s.digest is not null", "where false")),
    (15_081_581_480_650_237_735, ("grow", "cardinality(m.parents) - (", "cardinality(m.parents) - 0 * (")),
    (11_572_743_648_263_458_756, ("grow", "except select m.no from", "except select -m.no from")),
    (0, ("grow", "total_steps + made", "total_steps")),
    (5_695_546_953_721_288_864, ("pass_places", "b.running - batch.ended", "b.running")),
    (13_865_505_871_219_042_266, ("retry_step", "running = b.running + 1", "running = b.running")),
    (10_597_520_594_009_339_541, ("revive", "+ k.waits::int", "+ 0")),
    (25_410_709_390_501_281, ("fail_batch_v1", "set open = false", "set open = true")),
    (8_042_718_449_822_535_001, ("open_batches", "next = b.no, ", "")),
    (0, ("operate_v1", "if p_dry or seen <> p_seen then", "if false then")),
    (0, ("load_run_steps_v1", " union all select n, false from unnest(s.further_ancestors) n", "")),
    (1_277_995_320_996_601_486, ("complete_one_v1", "unnest((d.parents || d.further_ancestors)[:64])", "unnest(d.parents[:64])")),
    (4_691_387_873_405_079_748, ("load_run_steps_v1", "errors => r.errors", "errors => null")),
    (
        1_936_245_259_927_860_690,
        ("complete_one_v1", "tasker.brief(p.error)) filter (where p.tolerated)", "tasker.brief(p.error)) filter (where false)"),
    ),
    (0, ("load_run_steps_v1", "inputs => case when s.fits then s.inputs::text end", "inputs => null")),
    (
        8_909_067_682_558_684_597,
        ("load_run_steps_v1", "checkpoint => case when s.fits then s.checkpoint::text end", "checkpoint => null"),
    ),
    (1_223_159_440_621_909_352, ("resolve_step", "case when own.tolerated then '' else own.state end", "''")),
];
/// So many random lives find a planted bug, should the one of its seed no longer find it.
const FOUND_WITHIN: usize = 200;

/// A queue of which a life takes the messages.
pub trait Taken: Queue + Default {
    /// Whether its messages may be lost.
    const LOSES: bool;

    /// The steps that were sent since the last look.
    async fn runs(rig: &Rig<Self>) -> Vec<RunStep>;
}

impl Taken for InProcess {
    const LOSES: bool = false;

    async fn runs(rig: &Rig) -> Vec<RunStep> {
        let mut runs = Vec::new();
        while rig.engine.queue().waiting() > 0 {
            runs.push(rig.receive().await);
        }
        runs
    }
}

impl Taken for RemoteQueue {
    const LOSES: bool = true;

    async fn runs(rig: &Rig<Self>) -> Vec<RunStep> {
        rig.engine.queue().runs()
    }
}

pub struct Life<Q = InProcess> {
    pub rig: Rig<Q>,
    pub chance: Chance,
    pub task: TaskId,
    pub workflow: Workflow,
    /// Dispatches without an answer.
    pub held: Vec<RunStep>,
    /// Answers that were given.
    given: Vec<(RunStep, Outcome, Answer)>,
    said: Vec<String>,
    at_once: bool,
    /// The seed of what each attempt of each step answers, where nothing else decides.
    script: Option<u64>,
    /// What the rows must be. Of calls at once nobody knows the order.
    definition: Option<Definition>,
}

#[tokio::test]
async fn calls_at_once_keep_to_the_graph() {
    live_with("at once", |chance| template(chance, 4, 3), &[SLOWLY]).await;
}

#[tokio::test]
async fn calls_at_once_without_operators_end_as_predicted() {
    each_life(
        async |what, yaml, own, is_remote| {
            if is_remote {
                live_as_predicted::<RemoteQueue>(what, &yaml, own).await;
            } else {
                live_as_predicted::<InProcess>(what, &yaml, own).await;
            }
        },
        |chance| template(chance, 4, 3),
        "predicted",
    )
    .await;
}

async fn live_as_predicted<Q: Taken>(what: String, template: &Value, chance: Chance) {
    if let Some(mut life) = Life::<Q>::of(what, template, chance, &[SLOWLY]).await {
        life.run_as_predicted().await;
    }
}

#[tokio::test]
async fn every_planted_bug_is_found() {
    let random = |chance: &mut Chance| {
        let (decisions, batches) = chance.one_of(vec![(4, 3), (2, 5)]);
        template(chance, decisions, batches)
    };
    for (seed, plant) in PLANTS {
        assert!(is_found(seed, &[plant], random).await, "not found: {plant:?}");
    }
}

/// Whether the life of the seed ends in a panic, or else one of several random ones.
async fn is_found(seed: u64, plants: &[Plant], template: impl Fn(&mut Chance) -> Value) -> bool {
    let mut chance = Chance::new(uuid::Uuid::new_v4().as_u128() as u64);
    for life in 0..=FOUND_WITHIN {
        let seed = if life == 0 { seed } else { chance.number() };
        let mut own = Chance::new(seed);
        let yaml = template(&mut own);
        let Some(mut planted) = Life::<InProcess>::of(format!("planted {seed}"), &yaml, own, plants).await else { continue };
        if tokio::spawn(async move { planted.run().await }).await.is_err() {
            if life > 0 {
                println!("{plants:?} was found by the random life {life}, whose seed is {seed}");
            }
            return true;
        }
    }
    false
}

#[tokio::test]
async fn lives_with_decisions_keep_to_the_graph() {
    live_with("decisions", |chance| template(chance, 5, 0), &[]).await;
}

#[tokio::test]
async fn lives_with_batches_keep_to_the_graph() {
    live_with("batches", |chance| template(chance, 0, 4), &[]).await;
}

#[tokio::test]
async fn lives_with_decisions_and_batches_keep_to_the_graph() {
    live_with("both", |chance| template(chance, 4, 3), &[]).await;
}

/// Runs lives of random templates with these bugs.
async fn live_with(what: &str, template: impl Fn(&mut Chance) -> Value, plants: &[Plant]) {
    let live = async |what, yaml: Value, own, is_remote| match is_remote {
        true => live::<RemoteQueue>(what, &yaml, own, plants).await,
        false => live::<InProcess>(what, &yaml, own, plants).await,
    };
    each_life(live, template, what).await;
}

/// Every other life is over a queue outside of the process. `TASKER_LIVES_SEED` repeats a run, `TASKER_LIVES` lengthens it.
async fn each_life(live: impl AsyncFn(String, Value, Chance, bool), template: impl Fn(&mut Chance) -> Value, what: &str) {
    let lives = std::env::var("TASKER_LIVES").map_or(LIVES, |lives| lives.parse().expect("TASKER_LIVES is a number"));
    let mut chance = Chance::of_run("TASKER_LIVES_SEED");
    for life in 0..lives {
        let seed = chance.number();
        let mut own = Chance::new(seed);
        let yaml = template(&mut own);
        let is_remote = life % 2 == 1;
        let place = if is_remote { ", a queue outside of the process" } else { "" };
        live(format!("{what} {life}{place}"), yaml, own, is_remote).await;
    }
}

async fn live<Q: Taken>(what: String, template: &Value, chance: Chance, plants: &[Plant]) {
    if let Some(mut life) = Life::<Q>::of(what, template, chance, plants).await {
        life.run().await;
    }
}

/// A template of up to nine steps. Of ten steps about so many are decisions, and so many batches.
pub fn template(chance: &mut Chance, decisions: usize, batches: usize) -> Value {
    let mut steps: Vec<Value> = Vec::new();
    let count = 3 + chance.below(5);
    while steps.len() < count {
        let name = format!("s{}", steps.len());
        let known: Vec<String> = steps.iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect();
        let mut parents: Vec<String> = known.into_iter().filter(|_| chance.permille(450)).collect();
        if parents.is_empty() && !steps.is_empty() && chance.permille(900) {
            parents.push(steps[chance.below(steps.len())]["name"].as_str().unwrap().to_owned());
        }
        let kind = chance.below(10);
        if kind < batches {
            let mut config = json!({"failure_strategy": chance.one_of(vec!["fail_fast", "isolate", "continue_on_failure"])});
            config["worker_template"] = json!(format!("{name}w"));
            if chance.permille(600) {
                config["parallelism"] = json!(1 + chance.below(2));
            }
            steps.push(json!({"name": name, "type": "batchable", "dependencies": parents, "batch_config": config}));
            steps.push(json!({"name": format!("{name}w"), "type": "batch_worker", "dependencies": [name]}));
        } else if kind < batches + decisions && !parents.is_empty() {
            steps.push(json!({"name": name, "type": "decision", "dependencies": parents}));
        } else if chance.permille(400) && !parents.is_empty() {
            steps.push(json!({"name": name, "type": "deferred_convergence", "dependencies": parents}));
        } else {
            steps.push(json!({"name": name, "dependencies": parents}));
        }
    }
    for step in &mut steps {
        step["retry"] = json!({"backoff": "none", "max_attempts": 1 + chance.below(2)});
    }
    serde_json::from_str(&workflow("life", json!(steps))).unwrap()
}

impl<Q: Taken> Life<Q> {
    /// The beginning of a life, unless the template is not valid.
    pub async fn of(what: String, template: &Value, chance: Chance, plants: &[Plant]) -> Option<Self> {
        let (parsed, _) = parse(&template.to_string()).ok()?;
        let rig = Rig::over(Q::default()).await;
        for &plant in plants {
            rig.plant(plant).await;
        }
        rig.register(&template.to_string()).await;
        let task = rig.submit("life", json!({})).await;
        let workflow = parsed.workflow("test").unwrap();
        let (said, at_once) = (vec![format!("{what}: {template}")], plants.contains(&SLOWLY));
        Some(Self { rig, chance, task, workflow, held: vec![], given: vec![], said, at_once, script: None, definition: None })
    }

    /// Answers at once, stale ones and lost messages, but no operators: the end does not depend on their order.
    async fn run_as_predicted(&mut self) {
        self.script = Some(self.chance.number());
        let predicted = self.predicted();
        self.take().await;
        for _ in 0..400 {
            if !self.held.is_empty() {
                self.race().await;
            } else if self.rig.state(self.task).await == TaskState::Running {
                self.resend().await;
            } else {
                predicted.compare(&self.rig, self.task, || self.history()).await;
                return self.rig.check().await;
            }
            self.rig.check().await;
        }
        panic!("the task does not end: {:#?}\n{}", self.rig.steps(self.task).await, self.history());
    }

    /// The task in its end, whatever the order of the answers.
    fn predicted(&self) -> Definition {
        let mut task = Definition::submitted(&self.workflow);
        while task.state == TaskState::Running {
            let live = task.rows.iter().find(|(_, row)| row.is_live()).map(|(no, row)| (*no, row.lease, row.tries()));
            let call = live.map_or(Call::Sweep, |(no, lease, tries)| Call::Answer(no, lease, self.scripted(no, tries)));
            assert!(task.apply(&self.workflow, &call), "{call:?}");
        }
        task
    }

    /// What an attempt of a step answers. Who fails first in a batch that fails fast would depend on the order, so there nobody does.
    fn scripted(&self, no: StepNo, attempt: i32) -> Said {
        let mut chance = Chance::new(self.script.unwrap_or_default() ^ (no as u64) << 16 ^ attempt as u64);
        let at = position(no).unwrap();
        let step = &self.workflow.steps[at];
        let fails_fast = step.batch.as_ref().is_some_and(|batch| batch.failure_strategy == FailureStrategy::FailFast);
        match chance.below(100) {
            0..8 if !fails_fast => Said::Permanent,
            8..30 if !fails_fast => Said::Retryable,
            _ => Said::Success(match step.kind {
                StepKind::Decision => {
                    let may = |other: &usize| {
                        let other = &self.workflow.steps[*other];
                        other.parents.contains(&at) && other.kind != StepKind::BatchWorker
                    };
                    let below = (0..self.workflow.steps.len()).filter(may);
                    Some(Created::Steps(below.filter(|_| chance.permille(600)).collect()))
                }
                StepKind::Batchable => Some(Created::Workers(chance.below(5) as u32)),
                _ => None,
            }),
        }
    }

    /// What waits is due, and what was sent without an answer is sent again.
    async fn resend(&mut self) {
        self.say("resend".into());
        self.rig.execute("update tasker.steps set wake_at = tasker.clock() where wake_at is not null").await;
        self.rig.engine.sweep().await.unwrap();
        self.take().await;
    }

    async fn run(&mut self) {
        self.definition = (!self.at_once).then(|| Definition::submitted(&self.workflow));
        self.take().await;
        for _ in 0..CALLS {
            match self.chance.below(100) {
                _ if self.at_once && self.chance.permille(600) => self.race().await,
                0..58 => self.answer().await,
                58..68 => self.answer_again().await,
                68..94 => self.operate().await,
                _ => self.sweep().await,
            }
            self.check().await;
        }
        self.end().await;
    }

    pub fn say(&mut self, what: String) {
        self.said.push(what);
    }

    pub fn history(&self) -> String {
        self.said.join("\n")
    }

    /// Takes the messages that wait, each of which has what its row says.
    pub async fn take(&mut self) {
        let runs = Q::runs(&self.rig).await;
        let expected = messages::by_rows(&self.rig, &[self.task]).await;
        for run in runs {
            let (said, row) = (messages::said(&run), expected.get(&(run.task_id, run.step_id.no)));
            if self.at_once {
                let Some(row) = row.filter(|row| row["lease"] == said["lease"]) else {
                    // It was superseded by a call at the same time.
                    continue;
                };
                let names = |message: &Value| message["results"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                assert_eq!(names(&said), names(row), "{}\n{}", run.step_name, self.history());
                // An operator may have settled an ancestor since then.
                for (name, result) in said["results"].as_object().unwrap().iter().filter(|(_, result)| !result.is_null()) {
                    assert_eq!(result, &row["results"][name], "{name}\n{}", self.history());
                }
            } else {
                let row = row.unwrap_or_else(|| panic!("{} does not run\n{}", run.step_name, self.history()));
                assert_eq!(said, *row, "{}\n{}", run.step_name, self.history());
            }
            if self.script.is_some() && self.is_lost(&run) {
                self.say(format!("lost {} lease {}", run.step_name, run.lease));
            } else if !self.held.iter().any(|held| held.lease() == run.lease()) {
                self.held.push(run);
            }
        }
    }

    /// Some messages do not arrive the first time.
    fn is_lost(&mut self, run: &RunStep) -> bool {
        run.resend == 0 && Q::LOSES && self.chance.permille(150)
    }

    async fn answer(&mut self) {
        if self.held.is_empty() {
            return self.sweep().await;
        }
        let run = self.held.swap_remove(self.chance.below(self.held.len()));
        let outcome = match self.chance.below(100) {
            0..8 => permanent("no"),
            8..18 => failure("not now"),
            18..22 => Outcome::Checkpoint { cursor: raw(json!(1)).unwrap(), items_processed: 1, accumulated: None },
            22..26 => Outcome::Released {},
            26..30 => Outcome::Started {},
            30..34 => Outcome::PendingCallback { timeout_seconds: 3600 },
            _ => self.success_of(&run, false),
        };
        self.say(format!("answer {} lease {}: {outcome:?}", run.step_name, run.lease));
        let answer = self.rig.answer(&run, outcome.clone()).await;
        self.define(&self.said_of(&run, &outcome));
        if matches!(outcome, Outcome::Started {} | Outcome::PendingCallback { .. }) {
            self.held.push(run);
        } else {
            self.given.push((run, outcome, answer));
        }
        self.take().await;
    }

    /// What an answer means by the definition.
    fn said_of(&self, run: &RunStep, outcome: &Outcome) -> Call {
        let said = match outcome {
            Outcome::Success { decision, batches, .. } => {
                let created =
                    |json: &Option<Box<RawValue>>| json.as_ref().map(|json| serde_json::from_str::<Value>(json.get()).unwrap());
                let of_decision = created(decision).map(|decision| {
                    let names = decision["create"].as_array().unwrap();
                    let position = |name: &Value| self.workflow.steps.iter().position(|step| step.name == name.as_str().unwrap());
                    Created::Steps(names.iter().map(|name| position(name).unwrap()).collect())
                });
                let workers = |batches: Value| batches["cursors"].as_array().map_or(0, Vec::len) as u32;
                Said::Success(of_decision.or_else(|| created(batches).map(|batches| Created::Workers(workers(batches)))))
            }
            Outcome::Failure(failure) if failure.retryable => Said::Retryable,
            Outcome::Failure(_) => Said::Permanent,
            Outcome::Started {} => Said::Started,
            Outcome::PendingCallback { .. } => Said::Callback,
            _ => Said::Again,
        };
        Call::Answer(run.step_id.no, run.lease, said)
    }

    /// Carries out a call on the definition.
    fn define(&mut self, call: &Call) {
        if let Some(definition) = &mut self.definition {
            definition.apply(&self.workflow, call);
        }
    }

    /// Several answers, some twice, and an operator's action at once.
    async fn race(&mut self) {
        let mut answers = Vec::new();
        for _ in 0..1 + self.chance.below(4).min(self.held.len()) {
            if self.held.is_empty() {
                break;
            }
            let run = self.held.swap_remove(self.chance.below(self.held.len()));
            let outcome = match self.script {
                Some(_) => self.scripted(run.step_id.no, run.attempt).outcome(&self.workflow, run.step_id.no),
                None if self.chance.permille(150) => permanent("no"),
                None => self.success_of(&run, false),
            };
            self.say(format!("at once {} lease {}: {outcome:?}", run.step_name, run.lease));
            for _ in 0..1 + usize::from(self.chance.permille(200)) {
                answers.push((run.clone(), outcome.clone()));
            }
        }
        if self.script.is_some() && !self.given.is_empty() && self.chance.permille(300) {
            let (run, outcome, _) = self.given[self.chance.below(self.given.len())].clone();
            self.say(format!("at once again {} lease {}", run.step_name, run.lease));
            answers.push((run, outcome));
        }
        let has_operators = self.script.is_none() && self.chance.permille(400);
        let action = if has_operators { Some(self.choose().await) } else { None };
        if let Some((step, action)) = &action {
            self.say(format!("at once {} {step:?}", action.verb()));
        }
        let (rig, task) = (&self.rig, self.task);
        let act = async {
            let Some((step, action)) = action else { return };
            let step = match step {
                Some(name) => Some(rig.step_id(task, &name).await),
                None => None,
            };
            match rig.engine.operate((task, step), action, by("at once"), Precondition::default()).await {
                Ok(_) | Err(OperatorError::Conflict { .. } | OperatorError::NotFound) => {}
                Err(error) => panic!("{error}"),
            }
        };
        let all = futures::future::join_all(answers.iter().map(|(run, outcome)| rig.answer(run, outcome.clone())));
        let (answered, ()) = futures::future::join(all, act).await;
        let accepted = |run: &RunStep| {
            let of_it = answers.iter().zip(&answered).filter(|((other, _), _)| other.lease() == run.lease());
            of_it.filter(|(_, answer)| **answer == Answer::Accepted).count()
        };
        assert!(answers.iter().all(|(run, _)| accepted(run) <= 1), "{answered:?}\n{}", self.history());
        self.given.extend(answers.into_iter().zip(answered).map(|((run, outcome), answer)| (run, outcome, answer)));
        self.take().await;
    }

    pub fn success_of(&mut self, run: &RunStep, all: bool) -> Outcome {
        let at = run.step_id.position().unwrap();
        let result = raw(json!({"of": run.step_name, "lease": run.lease, "n": self.given.len()})).unwrap();
        let (mut decision, mut batches) = (None, None);
        match self.workflow.steps[at].kind {
            StepKind::Decision => {
                let below =
                    self.workflow.steps.iter().filter(|step| step.parents.contains(&at) && step.kind != StepKind::BatchWorker);
                let below: Vec<&str> = below.map(|step| step.name.as_str()).collect();
                let chosen: Vec<&str> = below.into_iter().filter(|_| all || self.chance.permille(600)).collect();
                decision = raw(json!({"create": chosen}));
            }
            StepKind::Batchable => {
                let workers = if all { 1 } else { self.chance.below(5) };
                let cursors: Vec<Value> =
                    (0..workers).map(|n| json!({"batch_id": format!("{n}"), "start": n, "end": n + 1})).collect();
                batches = raw(if workers == 0 { json!("no_batches") } else { json!({"cursors": cursors}) });
            }
            _ => {}
        }
        Outcome::Success { result, metadata: None, decision, batches }
    }

    /// An outcome that was given already has no further effect.
    async fn answer_again(&mut self) {
        if self.given.is_empty() {
            return;
        }
        let (run, outcome, first) = self.given[self.chance.below(self.given.len())].clone();
        let is_same = self.chance.permille(700);
        let outcome = if is_same { outcome } else { success(json!("something else")) };
        self.say(format!("again {} lease {}: {outcome:?}", run.step_name, run.lease));
        let before = self.states().await;
        let answer = self.rig.answer(&run, outcome).await;
        assert!(!matches!(answer, Answer::Accepted | Answer::Forged | Answer::Unknown), "{answer:?}\n{}", self.history());
        if is_same && first == Answer::Accepted {
            assert_eq!(answer, Answer::Duplicate, "{}", self.history());
        }
        assert_eq!(self.states().await, before, "{}", self.history());
    }

    pub async fn operate(&mut self) {
        let (step, action) = self.choose().await;
        self.act(step.as_deref(), action).await;
    }

    /// An action, and the step that it is about.
    async fn choose(&mut self) -> (Option<String>, OperatorAction) {
        let steps = self.rig.steps(self.task).await;
        let names: Vec<&String> = steps.keys().collect();
        let name = names[self.chance.below(names.len())].clone();
        let inputs = if self.chance.permille(300) { raw(json!({"k": 1})) } else { None };
        let result = if self.chance.permille(500) { raw(json!("by hand")) } else { None };
        match self.chance.below(20) {
            0..6 => (Some(name), OperatorAction::RetryStep { inputs }),
            6..11 => (Some(name), OperatorAction::RedoStep { inputs }),
            11..14 => (Some(name), OperatorAction::ResolveStep { result }),
            14 => (None, OperatorAction::CancelTask),
            15 | 16 => (None, OperatorAction::ReopenTask),
            17 => (None, OperatorAction::PauseTask),
            18 => (None, OperatorAction::ResumeTask),
            _ => (Some(name), OperatorAction::Note),
        }
    }

    /// A dry run changes nothing, and says what the action then does.
    async fn act(&mut self, step: Option<&str>, action: OperatorAction) {
        self.say(format!("{} {step:?} {action:?}", action.verb()));
        let target = (
            self.task,
            match step {
                Some(name) => Some(self.rig.step_id(self.task, name).await),
                None => None,
            },
        );
        let no = target.1.map(|step| step.no);
        let call = match &action {
            OperatorAction::RetryStep { .. } => no.map(Call::Retry),
            OperatorAction::RedoStep { .. } => no.map(Call::Redo),
            OperatorAction::ResolveStep { .. } => no.map(Call::Resolve),
            OperatorAction::CancelTask => Some(Call::Cancel),
            OperatorAction::ReopenTask => Some(Call::Reopen),
            OperatorAction::PauseTask => Some(Call::Pause),
            OperatorAction::ResumeTask => Some(Call::Resume),
            _ => None,
        };
        let before = (self.rows().await, self.states().await);
        let dry = Precondition { seen: None, dry_run: true };
        let promised = self.rig.engine.operate(target, action.clone(), by("to see"), dry).await;
        assert_eq!((self.rows().await, self.states().await), before, "a dry run changed rows\n{}", self.history());
        match promised {
            Ok(effects) => {
                let seen = Precondition { seen: Some(effects.seen.clone()), dry_run: false };
                let done = self.rig.engine.operate(target, action, by("to do"), seen).await;
                assert_eq!(done.unwrap_or_else(|e| panic!("{e}\n{}", self.history())), effects, "{}", self.history());
            }
            Err(OperatorError::Conflict { .. }) => {}
            Err(error) => panic!("{error}\n{}", self.history()),
        }
        if let Some(call) = call {
            self.define(&call);
        }
        self.take().await;
    }

    async fn sweep(&mut self) {
        self.say("sweep".into());
        self.rig.execute("update tasker.steps set wake_at = tasker.clock() where state in ('waiting_for_retry', 'pending') and wake_at is not null").await;
        self.rig.engine.sweep().await.unwrap();
        self.define(&Call::Sweep);
        self.take().await;
    }

    async fn states(&self) -> Vec<Value> {
        self.rig.rows("select no, state, lease, attempt, pending_parents, wake_at, result, inputs, created from tasker.steps order by no").await
    }

    /// Everything else that an action may write.
    async fn rows(&self) -> Vec<Value> {
        let sql = "select (select json_agg(t) from tasker.tasks t) as tasks, (select json_agg(b order by b.no) from tasker.batches b) as batches,
            (select count(*) from tasker.attempts) as attempts, (select count(*) from tasker.audit_log) as audits,
            (select json_agg(d order by d.dlq_entry_id) from tasker.dlq_entries d) as entries";
        self.rig.rows(sql).await
    }

    /// The rows are as defined, and all counters agree with them.
    pub async fn check(&self) {
        if let Some(definition) = &self.definition {
            definition.compare(&self.rig, self.task, || self.history()).await;
        }
        let report = self.rig.engine.examine().await.unwrap();
        assert!(report.differences.is_empty(), "{:#?}\n{}", report.differences, self.history());
        let mut live: HashMap<i32, i32> = HashMap::new();
        for row in self.states().await {
            if row["state"] == "enqueued" || row["state"] == "in_progress" {
                live.insert(row["no"].as_i64().unwrap() as i32, row["lease"].as_i64().unwrap() as i32);
            }
        }
        let held: HashMap<i32, i32> = self
            .held
            .iter()
            .filter(|run| live.get(&run.step_id.no) == Some(&run.lease))
            .map(|run| (run.step_id.no, run.lease))
            .collect();
        assert_eq!(held, live, "every dispatch was sent\n{}", self.history());
    }

    /// Whatever happened, the task can be brought to its end.
    async fn end(&mut self) {
        self.act(None, OperatorAction::ReopenTask).await;
        for _ in 0..400 {
            self.check().await;
            match self.rig.state(self.task).await {
                TaskState::Running => {}
                TaskState::Error => {
                    let sql = "select name from tasker.steps where state = 'error' and not tolerated order by no limit 1";
                    let failed = self.rig.rows(sql).await.pop().map(|row| row["name"].as_str().unwrap().to_owned());
                    let action =
                        failed.as_ref().map_or(OperatorAction::ReopenTask, |_| OperatorAction::RetryStep { inputs: None });
                    self.act(failed.as_deref(), action).await;
                    continue;
                }
                _ => return,
            }
            match self.held.pop() {
                Some(run) => {
                    let outcome = self.success_of(&run, true);
                    self.say(format!("end {} lease {}: {outcome:?}", run.step_name, run.lease));
                    let call = self.said_of(&run, &outcome);
                    self.rig.answer(&run, outcome).await;
                    self.define(&call);
                    self.take().await;
                }
                None => {
                    self.act(None, OperatorAction::ResumeTask).await;
                    self.sweep().await;
                }
            }
        }
        panic!("the task does not end: {:#?}\n{}", self.rig.steps(self.task).await, self.history());
    }
}
