//! One seed over the queue inside the process, step by step. Up to three verbs of the engine are under way at once, and each
//! stops before its next statement. The seed chooses which statement runs next, which answer is lost, when the process dies, and
//! when time passes. Only one verb moves at a time, so a seed replays exactly. The module `loops` covers the engine's own loops.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use anyhow::{Result, bail, ensure};
use tasker_engine::{Engine, SubmitError, Submitted};
use tasker_queue::InProcess;
use tasker_store::StoreError;
use tasker_test_support::{Chance, receive};
use tasker_wire::{Answer, CompleteStep, Evaluate, Outcome, RunStep, StepId, TaskId, message::VERSION};
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinHandle};

use crate::{
    driver::{AT_LEAST, Report, START_MS, Task, check_answers, repeat_old_answers, request, tasks_of},
    faults::{Fault, Faults},
    history,
    journal::Journal,
    model::Growth,
    operators::{Choice, FAILED, audited, by, choices, done},
    process::Fails,
    queue::GRID_MS,
    rig::{CONNECTIONS, Rig, engine},
    statement_proxy::{Cut, StatementProxy, Turn},
    workers::Workers,
};

/// A seed that has not ended after so many moves is stuck.
const STEPS: usize = 50_000;
/// Completers of the embedded mode.
const COMPLETERS: usize = 2;
/// The most tasks of a seed that are cancelled.
const CANCELS: usize = 2;

/// A process. Each verb under way stops before a statement; a kill of the process ends all of them.
struct Process {
    engine: Arc<Engine<InProcess>>,
    proxy: StatementProxy,
    turns: UnboundedReceiver<Turn>,
    under_way: Vec<UnderWay>,
    /// It has taken over what the previous process left.
    ready: bool,
    /// An answer of the database was lost.
    lost_track: bool,
    /// Outcomes that workers will send, by time.
    answers: BTreeMap<(u64, u64), CompleteStep>,
    /// Batches that completers could not apply, and still hold.
    kept: Vec<Vec<CompleteStep>>,
    wake_ups: Vec<Evaluate>,
}

struct UnderWay {
    verb: Verb,
    call: JoinHandle<Result<Returned>>,
    /// The statement before which it stopped.
    turn: Option<Turn>,
}

#[derive(Debug, Clone)]
enum Verb {
    TakeOver,
    Submit(usize),
    Complete(Vec<CompleteStep>),
    Evaluate(Vec<Evaluate>),
    Sweep,
    Recover,
    Cancel(usize, TaskId),
    Retry(StepId),
}

impl Verb {
    /// Requests share one connection here, and would wait for it in real time until they give up.
    fn is_request(&self) -> bool {
        matches!(self, Self::Submit(_) | Self::Cancel(..) | Self::Retry(_))
    }
}

/// The result of a verb.
enum Returned {
    Answers(Vec<Answer>),
    Submitted(Result<Submitted, SubmitError>),
    Operated(bool),
    Done,
    /// It is unknown whether the verb was carried out.
    Lost,
}

/// What may happen next.
#[derive(Debug, Clone, Copy)]
enum Move {
    Statement(usize),
    Submit,
    Receive,
    Complete,
    Evaluate,
    Sweep,
    Recover,
    Cancel,
    Kill,
    Pass,
}

struct Run<'a> {
    rig: &'a Rig,
    seed: u64,
    chance: Chance,
    faults: Arc<Faults>,
    journal: Journal,
    tasks: Vec<Task>,
    places: HashMap<TaskId, usize>,
    workers: Workers,
    process: Process,
    accepted: HashSet<(TaskId, i32, i32)>,
    now_ms: u64,
    serial: u64,
}

/// Runs a seed to its end and checks the result.
pub async fn run(rig: &mut Rig, growth: Growth, seed: u64) -> Result<Report> {
    let mut chance = Chance::new(seed);
    let tasks = tasks_of(&mut chance, growth);
    rig.prepare(&tasks).await?;
    rig.set_clock(START_MS).await?;
    let faults = Arc::new(Faults::default());
    let mut run = Run {
        rig,
        seed,
        chance,
        faults: faults.clone(),
        journal: Journal::default(),
        tasks,
        places: HashMap::new(),
        workers: Workers::new(seed, faults),
        process: Process::new(rig, seed),
        accepted: HashSet::new(),
        now_ms: START_MS,
        serial: 0,
    };
    let ended = run.live().await;
    run.process.end().await;
    ended
}

impl Process {
    fn new(rig: &Rig, seed: u64) -> Self {
        let (proxy, turns) = StatementProxy::open_by_turns(&rig.sessions);
        Self {
            engine: engine(&proxy, InProcess::default(), seed),
            proxy,
            turns,
            under_way: Vec::new(),
            ready: false,
            lost_track: false,
            answers: BTreeMap::new(),
            kept: Vec::new(),
            wake_ups: Vec::new(),
        }
    }

    /// Ends all of it before this returns. Answers the verbs that were under way.
    async fn end(self) -> Vec<Verb> {
        let (calls, verbs): (Vec<_>, Vec<_>) = self.under_way.into_iter().map(|u| (u.call, u.verb)).unzip();
        self.proxy.close().await;
        for call in calls {
            // Nobody is left to use the result.
            let _ = call.await;
        }
        verbs
    }

    fn count(&self, which: impl Fn(&Verb) -> bool) -> usize {
        self.under_way.iter().filter(|u| which(&u.verb)).count()
    }
}

impl Run<'_> {
    async fn live(&mut self) -> Result<Report> {
        self.drive().await?;
        self.try_again().await?;
        self.drive().await?;
        history::check(self.rig, self.seed, &self.tasks, &self.accepted, true).await?;
        let proxy = StatementProxy::open(&self.rig.sessions);
        let fresh = engine(&proxy, InProcess::default(), self.seed);
        repeat_old_answers(self.rig, &fresh, &mut self.chance, (&self.workers, &self.tasks), &self.faults).await?;
        self.rig.examine(&fresh).await?;
        proxy.close().await;
        ensure!(self.faults.total() >= AT_LEAST, "only {} faults", self.faults.total());
        Ok(Report::new(&self.faults, &self.tasks, self.workers.answers.len(), self.journal.take()))
    }

    async fn drive(&mut self) -> Result<()> {
        for _ in 0..STEPS {
            self.faults.settle();
            if !self.process.ready && self.process.under_way.is_empty() {
                self.begin(Verb::TakeOver).await?;
            }
            if self.is_quiet() && self.all_is_done().await? {
                return Ok(());
            }
            let next = self.choose();
            self.make(next).await?;
        }
        bail!("not ended after {STEPS} steps:\n{}", history::dump(self.rig).await?)
    }

    /// Nothing is under way, and no message waits or is held.
    fn is_quiet(&self) -> bool {
        let p = &self.process;
        let idle = p.ready && !p.lost_track && p.under_way.is_empty() && p.answers.is_empty() && p.kept.is_empty();
        idle && p.engine.queue().waiting() == 0 && self.tasks.iter().all(|t| t.id.is_some())
    }

    async fn all_is_done(&self) -> Result<bool> {
        let (running, wake) = self.rig.outlook().await?;
        ensure!(
            running == 0 || wake.is_some(),
            "{running} tasks are running and nothing will move them:\n{}",
            history::dump(self.rig).await?
        );
        Ok(running == 0)
    }

    fn choose(&mut self) -> Move {
        let p = &self.process;
        let mut moves = vec![(1, Move::Pass)];
        moves.extend((0..p.under_way.len()).map(|n| (4, Move::Statement(n))));
        let room = p.ready && p.under_way.len() < CONNECTIONS;
        let alone = |which: fn(&Verb) -> bool| room && p.count(which) == 0;
        let looks = alone(|v| matches!(v, Verb::Sweep | Verb::Recover));
        let due = !p.kept.is_empty() || p.answers.first_key_value().is_some_and(|((at, _), _)| *at <= self.now_ms);
        let mut offer = |weight, next, is_possible: bool| moves.extend(is_possible.then_some((weight, next)));
        offer(4, Move::Submit, alone(Verb::is_request) && self.tasks.iter().any(|t| t.id.is_none()));
        offer(4, Move::Receive, p.ready && p.engine.queue().waiting() > 0);
        offer(6, Move::Complete, room && due && p.count(|v| matches!(v, Verb::Complete(_))) < COMPLETERS);
        offer(3, Move::Evaluate, alone(|v| matches!(v, Verb::Evaluate(_))) && !p.wake_ups.is_empty());
        offer(1, Move::Sweep, looks);
        offer(2, Move::Recover, looks && p.lost_track);
        let total: usize = moves.iter().map(|(weight, _)| weight).sum();
        // Rare moves are outside the weights.
        match self.chance.below(1000) {
            0..12 if !self.faults.enough() => return Move::Kill,
            12..18 if room => return Move::Cancel,
            _ => {}
        }
        let mut n = self.chance.below(total);
        for (weight, next) in moves {
            if n < weight {
                return next;
            }
            n -= weight;
        }
        Move::Pass
    }

    async fn make(&mut self, next: Move) -> Result<()> {
        match next {
            Move::Statement(n) => self.run_statement(n).await,
            Move::Submit => match self.tasks.iter().position(|t| t.id.is_none()) {
                Some(place) => self.begin(Verb::Submit(place)).await,
                None => Ok(()),
            },
            Move::Receive => self.receive().await,
            Move::Complete => {
                let batch = self.batch();
                self.begin(Verb::Complete(batch)).await
            }
            Move::Evaluate => {
                let wake_ups = std::mem::take(&mut self.process.wake_ups);
                self.begin(Verb::Evaluate(wake_ups)).await
            }
            Move::Sweep => self.begin(Verb::Sweep).await,
            Move::Recover => {
                self.process.lost_track = false;
                self.begin(Verb::Recover).await
            }
            Move::Cancel => self.cancel().await,
            Move::Kill => self.kill().await,
            Move::Pass => self.pass().await,
        }
    }

    /// Starts a verb, and runs it up to its first statement.
    async fn begin(&mut self, verb: Verb) -> Result<()> {
        let text = self.say(&verb);
        self.note(format!("begin {text}"));
        let (engine, asked) = (self.process.engine.clone(), verb.clone());
        let request = match &verb {
            Verb::Submit(place) => Some(request(self.seed, *place, &self.tasks[*place].workflow)),
            _ => None,
        };
        let call = tokio::spawn(async move {
            Ok(match asked {
                Verb::TakeOver => came(engine.take_over().await, |()| Returned::Done)?,
                Verb::Submit(_) => {
                    let answer = engine.submit(request.expect("it was made"), None).await;
                    if answer.as_ref().is_err_and(Fails::is_lost) { Returned::Lost } else { Returned::Submitted(answer) }
                }
                Verb::Complete(batch) => came(engine.complete(batch).await, Returned::Answers)?,
                Verb::Evaluate(wake_ups) => came(engine.evaluate(wake_ups).await, |()| Returned::Done)?,
                Verb::Sweep => came(engine.sweep().await, |_| Returned::Done)?,
                Verb::Recover => came(engine.recover().await, |()| Returned::Done)?,
                Verb::Cancel(_, task) => operated(engine.cancel_task(task, by()).await)?,
                Verb::Retry(step) => operated(engine.retry_step(step, by()).await)?,
            })
        });
        self.process.under_way.push(UnderWay { verb, call, turn: None });
        self.until_it_stops(self.process.under_way.len() - 1).await
    }

    /// Waits until a verb stops before its next statement, or has ended. All others stay where they are.
    async fn until_it_stops(&mut self, n: usize) -> Result<()> {
        let under_way = &mut self.process.under_way[n];
        let came = tokio::select! {
            biased;
            came = &mut under_way.call => came??,
            turn = self.process.turns.recv() => {
                under_way.turn = turn;
                return Ok(());
            }
        };
        let verb = self.process.under_way.remove(n).verb;
        let text = self.say(&verb);
        match &came {
            Returned::Lost => self.note(format!("lost {text}")),
            Returned::Answers(answers) => self.note(format!("ended {text}: {answers:?}")),
            _ => self.note(format!("ended {text}")),
        }
        self.apply(verb, came).await
    }

    /// Lets a statement run, and perhaps loses its answer.
    async fn run_statement(&mut self, n: usize) -> Result<()> {
        let cut = match self.chance.below(1000) {
            _ if self.faults.enough() => None,
            0..50 => Some(Cut::Before),
            50..120 => Some(Cut::Inside),
            _ => None,
        };
        if let Some(cut) = cut {
            self.faults.note(if cut == Cut::Before { Fault::CutBeforeCommit } else { Fault::CutInCommit });
            self.process.lost_track = true;
        }
        let text = self.say(&self.process.under_way[n].verb);
        self.note(format!("statement of {text}, cut {cut:?}"));
        if let Some(turn) = self.process.under_way[n].turn.take() {
            turn.go(cut);
        }
        self.until_it_stops(n).await
    }

    async fn apply(&mut self, verb: Verb, came: Returned) -> Result<()> {
        self.process.lost_track |= matches!(came, Returned::Lost);
        match (verb, came) {
            (Verb::TakeOver, Returned::Done) => self.process.ready = true,
            (Verb::Submit(place), Returned::Submitted(answer)) => {
                let task = &mut self.tasks[place];
                let id = match answer {
                    Ok(submitted) => submitted.task,
                    Err(SubmitError::Duplicate { task: id, .. }) if task.doubtful => id,
                    // Certainly not accepted: a later try that meets a task of the same identity fails the seed.
                    Err(SubmitError::Store(StoreError::Unavailable(_))) => return Ok(()),
                    Err(e) => bail!("submit: {e}"),
                };
                task.id = Some(id);
                self.places.insert(id, place);
            }
            (Verb::Submit(place), Returned::Lost) => self.tasks[place].doubtful = true,
            (Verb::Complete(batch), Returned::Answers(answers)) => {
                check_answers(&mut self.accepted, &self.tasks, &batch, &answers)?;
                let failed = |(done, answer): &(&CompleteStep, &Answer)| {
                    **answer == Answer::Accepted && matches!(done.outcome, Outcome::Failure(_))
                };
                let failures = batch.iter().zip(&answers).filter(failed);
                self.process.wake_ups.extend(failures.map(|(done, _)| Evaluate {
                    v: VERSION,
                    step_id: done.step_id,
                    lease: done.lease,
                }));
            }
            (Verb::Complete(batch), Returned::Lost) => self.process.kept.push(batch),
            (Verb::Cancel(place, _), Returned::Operated(true)) => self.tasks[place].actions.cancel(),
            (Verb::Cancel(place, task), Returned::Lost) if audited(self.rig, task, None, "cancel_task").await? > 0 => {
                self.tasks[place].actions.cancel();
            }
            _ => {}
        }
        Ok(())
    }

    async fn receive(&mut self) -> Result<()> {
        // The order in which one statement dispatches follows its query plan and the ids, which differ from run to run.
        let mut runs = receive(&self.process.engine, usize::MAX).await;
        runs.sort_by_key(|run| (place(run), run.step_id.no, run.lease));
        for run in runs {
            self.places.entry(run.task_id).or_insert_with(|| place(&run));
            self.note(format!("run {} try {}", self.name(run.step_id, run.lease), run.attempt));
            self.work(&run);
        }
        Ok(())
    }

    fn work(&mut self, run: &RunStep) {
        loop {
            let act = self.workers.run(run, &self.tasks);
            let reported = act.report.is_some();
            if let Some(report) = act.report {
                self.put(0, report);
            }
            match act.answer {
                Some(done) => {
                    if done.lease % 5 == 1 && act.ms.is_multiple_of(5) {
                        self.faults.note(Fault::Doubled);
                        self.put(act.ms + act.ms % 1_000, done.clone());
                    }
                    return self.put(act.ms, done);
                }
                None if reported => return,
                // The worker's runtime sees that it died, and runs the message again.
                None => {}
            }
        }
    }

    fn put(&mut self, after_ms: u64, done: CompleteStep) {
        self.serial += 1;
        let at = (self.now_ms + after_ms).next_multiple_of(GRID_MS);
        self.process.answers.insert((at, self.serial), done);
    }

    /// What a completer takes: a batch that could not be applied before, else some outcomes that are due.
    fn batch(&mut self) -> Vec<CompleteStep> {
        if !self.process.kept.is_empty() {
            return self.process.kept.remove(0);
        }
        let mut batch = Vec::new();
        for _ in 0..1 + self.chance.below(12) {
            match self.process.answers.first_entry() {
                Some(first) if first.key().0 <= self.now_ms => batch.push(first.remove()),
                _ => break,
            }
        }
        batch
    }

    async fn cancel(&mut self) -> Result<()> {
        let place = self.chance.below(self.tasks.len());
        let cancelled = self.tasks.iter().filter(|t| t.actions.cancelled).count();
        let is_under_way = self.process.count(Verb::is_request) > 0;
        let task = &self.tasks[place];
        match task.id {
            Some(id) if !is_under_way && cancelled < CANCELS && !task.actions.cancelled => {
                self.begin(Verb::Cancel(place, id)).await
            }
            _ => Ok(()),
        }
    }

    /// Kills the process at this point; perhaps one of its statements still runs, and its answer is lost.
    async fn kill(&mut self) -> Result<()> {
        self.faults.note(Fault::Killed);
        let carried_out = (self.chance.permille(500) && !self.process.under_way.is_empty()).then(|| {
            let n = self.chance.below(self.process.under_way.len());
            if let Some(turn) = self.process.under_way[n].turn.take() {
                turn.go(Some(Cut::Inside));
            }
            n
        });
        self.note(format!("killed, carried out {carried_out:?}"));
        let dead = std::mem::replace(&mut self.process, Process::new(self.rig, self.seed));
        for verb in dead.end().await {
            // The batches of completers are lost with the process: their steps run again.
            if !matches!(verb, Verb::Complete(_)) {
                self.apply(verb, Returned::Lost).await?;
            }
        }
        self.process.lost_track = false;
        Ok(())
    }

    /// Moves time to the next event, or a little further.
    async fn pass(&mut self) -> Result<()> {
        let (_, wake) = self.rig.outlook().await?;
        let answer = self.process.answers.keys().next().map(|(at, _)| *at);
        let next = answer.into_iter().chain(wake).min().unwrap_or(self.now_ms);
        let mut at = next.max(self.now_ms) + self.chance.below(3_000) as u64;
        if !self.faults.enough() && self.chance.permille(40) {
            self.faults.note(Fault::ClockJumped);
            at += self.chance.below(40 * 60_000) as u64;
        }
        self.now_ms = at.next_multiple_of(GRID_MS);
        self.note("time".to_owned());
        self.rig.set_clock(self.now_ms).await
    }

    /// When nothing moves any more, operators retry some failed steps.
    async fn try_again(&mut self) -> Result<()> {
        for Choice { id, place, lease } in choices(self.rig, FAILED).await? {
            if self.chance.permille(500) {
                self.tasks[place].actions.begin_budget(id.no, lease);
                self.tasks[place].actions.count("retry_step");
                self.begin(Verb::Retry(id)).await?;
                while let Some(turn) = self.process.under_way.first_mut().and_then(|u| u.turn.take()) {
                    turn.go(None);
                    self.until_it_stops(0).await?;
                }
            }
        }
        Ok(())
    }

    fn note(&self, line: String) {
        self.journal.note(format!("{} {line}", self.now_ms - START_MS));
    }

    /// A verb without the ids, which differ from run to run.
    fn say(&self, verb: &Verb) -> String {
        match verb {
            Verb::Complete(batch) => {
                let names: Vec<String> = batch.iter().map(|done| self.name(done.step_id, done.lease)).collect();
                format!("complete {names:?}")
            }
            Verb::Evaluate(wake_ups) => {
                let names: Vec<String> = wake_ups.iter().map(|w| self.name(w.step_id, w.lease)).collect();
                format!("evaluate {names:?}")
            }
            Verb::Cancel(place, _) => format!("cancel {place}"),
            Verb::Retry(step) => format!("retry {}", self.name(*step, 0)),
            other => format!("{other:?}"),
        }
    }

    fn name(&self, step: StepId, lease: i32) -> String {
        format!("{:?}/{} lease {lease}", self.places.get(&step.task), step.no)
    }
}

fn place(run: &RunStep) -> usize {
    crate::queue::place_of(run.context.get()).expect("a task knows its place")
}

fn came<T, E: Fails + Into<anyhow::Error>>(answer: Result<T, E>, of: impl FnOnce(T) -> Returned) -> Result<Returned> {
    match answer {
        Ok(value) => Ok(of(value)),
        Err(e) if e.is_lost() => Ok(Returned::Lost),
        Err(e) => Err(e.into()),
    }
}

fn operated(answer: Result<(), tasker_engine::OperatorError>) -> Result<Returned> {
    match answer {
        Err(e) if e.is_lost() => Ok(Returned::Lost),
        other => done(other).map(Returned::Operated),
    }
}
