//! One seed over the queue inside the process, with the engine's own loops and in real time, so no seed replays exactly. Messages
//! are lost only with their process, or with an answer of the database. The process is killed and started again on what it left.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use parking_lot::Mutex;
use tasker_engine::{Engine, OperatorError, SubmitError};
use tasker_queue::{InProcess, Outgoing, Queue};
use tasker_store::StoreError;
use tasker_test_support::{Chance, receive};
use tasker_wire::CompleteStep;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    driver::{AT_LEAST, Report, Task, request, tasks_of},
    faults::{Fault, Faults},
    history,
    model::Growth,
    operators::{Choice, FAILED, audited, by, choices, done},
    process::note_cuts,
    rig::{Rig, engine},
    statement_proxy::{Cut, Order, StatementProxy},
    workers::Workers,
};

/// Longer than any seed takes. A seed that takes longer has lost something.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longer than every deadline of a started step.
const JUMP_MS: i64 = 101_000;
/// By a part of their text, which is the same for all functions of a verb.
const STATEMENTS: [&str; 4] = ["tasker.complete_", "sweep_v1", "dispatch_v1", "load_run_steps_v1"];

/// A process with everything that runs in it. Dropping it ends all of it.
struct Process {
    engine: Arc<Engine<InProcess>>,
    proxy: StatementProxy,
    _loops: JoinSet<()>,
}

struct Run<'a> {
    rig: &'a Rig,
    seed: u64,
    chance: Chance,
    faults: Arc<Faults>,
    tasks: Arc<Mutex<Vec<Task>>>,
    workers: Arc<Mutex<Workers>>,
    process: Process,
    ahead_ms: i64,
}

/// Runs a seed to its end and checks the result.
pub async fn run(rig: &mut Rig, growth: Growth, seed: u64) -> Result<Report> {
    let mut chance = Chance::new(seed);
    let tasks = tasks_of(&mut chance, growth);
    rig.prepare(&tasks).await?;
    rig.run_clock(0).await?;
    let faults = Arc::new(Faults::default());
    let workers = Arc::new(Mutex::new(Workers::new(seed, faults.clone())));
    let tasks = Arc::new(Mutex::new(tasks));
    let process = start(rig, seed, &workers, &tasks).await?;
    let mut run = Run { rig, seed, chance, faults, tasks, workers, process, ahead_ms: 0 };
    let ended = run.live().await;
    run.process.end().await;
    ended
}

impl Process {
    async fn end(mut self) {
        self._loops.abort_all();
        while self._loops.join_next().await.is_some() {}
        self.proxy.close().await;
    }
}

async fn start(rig: &Rig, seed: u64, workers: &Arc<Mutex<Workers>>, tasks: &Arc<Mutex<Vec<Task>>>) -> Result<Process> {
    let proxy = StatementProxy::open(&rig.sessions);
    let engine = engine(&proxy, InProcess::default(), seed);
    engine.take_over().await?;
    let mut loops = JoinSet::new();
    loops.spawn(tasker_server::drain_queue(engine.clone(), CancellationToken::new()));
    loops.spawn(work(engine.clone(), workers.clone(), tasks.clone()));
    Ok(Process { engine, proxy, _loops: loops })
}

/// Workers of a process: they die with it.
async fn work(engine: Arc<Engine<InProcess>>, workers: Arc<Mutex<Workers>>, tasks: Arc<Mutex<Vec<Task>>>) {
    let mut running = JoinSet::new();
    loop {
        for run in receive(&engine, 3).await {
            let (engine, workers, tasks) = (engine.clone(), workers.clone(), tasks.clone());
            running.spawn(async move {
                loop {
                    let act = workers.lock().run(&run, &tasks.lock());
                    let reported = act.report.is_some();
                    if let Some(report) = act.report {
                        answer(&engine, report).await;
                    }
                    // A thousandth of what the script says. A late outcome comes after a jump of the clock.
                    tokio::time::sleep(Duration::from_micros(act.ms.min(60_000))).await;
                    let Some(done) = act.answer else {
                        if reported {
                            return;
                        }
                        // The worker's runtime sees that it died, and runs the message again.
                        continue;
                    };
                    let twice = done.lease % 5 == 1 && act.ms % 5 == 0;
                    answer(&engine, done.clone()).await;
                    if twice {
                        answer(&engine, done).await;
                    }
                    return;
                }
            });
        }
        while running.try_join_next().is_some() {}
    }
}

async fn answer(engine: &Engine<InProcess>, done: CompleteStep) {
    engine.queue().send(vec![Outgoing::CompleteStep(Arc::new(done))]).await;
}

impl Run<'_> {
    async fn live(&mut self) -> Result<Report> {
        self.drive().await?;
        self.try_again().await?;
        self.drive().await?;
        let tasks = std::mem::take(&mut *self.tasks.lock());
        history::check(self.rig, self.seed, &tasks, &HashSet::new(), false).await?;
        self.rig.examine(&self.process.engine).await?;
        ensure!(self.faults.total() >= AT_LEAST, "only {} faults", self.faults.total());
        Ok(Report::new(&self.faults, &tasks, self.workers.lock().answers.len(), Vec::new()))
    }

    async fn drive(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            self.faults.settle();
            self.submit_next().await?;
            if self.tasks.lock().iter().all(|t| t.id.is_some()) && self.running().await? == 0 && self.faults.total() >= AT_LEAST {
                return Ok(());
            }
            match self.chance.below(100) {
                0..25 => self.cut(),
                25..31 if !self.faults.enough() => self.kill().await?,
                31..41 => self.jump().await?,
                41..43 => self.cancel().await?,
                _ => tokio::time::sleep(Duration::from_micros(self.chance.below(6_000) as u64)).await,
            }
            ensure!(began.elapsed() < PATIENCE, "not ended after {PATIENCE:?}:\n{}", history::dump(self.rig).await?);
        }
    }

    async fn running(&self) -> Result<i64> {
        let sql = "select count(*) from tasker.tasks where state = 'running'";
        Ok(self.rig.sql.query_typed(sql, &[]).await?[0].get(0))
    }

    /// Orders a cut, and counts the effects of the previous order.
    fn cut(&mut self) {
        let cut = if self.chance.permille(400) { Cut::Before } else { Cut::Inside };
        let statement = STATEMENTS[self.chance.below(10).saturating_sub(6)];
        let order = (!self.faults.enough()).then_some(Order { statement, cut, times: 1 });
        note_cuts(&self.faults, &self.process.proxy.order(order));
    }

    async fn kill(&mut self) -> Result<()> {
        self.faults.note(Fault::Killed);
        note_cuts(&self.faults, &self.process.proxy.order(None));
        // The old process must be gone before the new one takes over, as the ownership of a database ensures.
        let fresh = StatementProxy::open(&self.rig.sessions);
        let idle = Process { engine: self.process.engine.clone(), proxy: fresh, _loops: JoinSet::new() };
        std::mem::replace(&mut self.process, idle).end().await;
        let started = start(self.rig, self.seed, &self.workers, &self.tasks).await?;
        std::mem::replace(&mut self.process, started).end().await;
        Ok(())
    }

    async fn jump(&mut self) -> Result<()> {
        self.ahead_ms += JUMP_MS;
        self.faults.note(Fault::ClockJumped);
        self.rig.run_clock(self.ahead_ms).await
    }

    async fn submit_next(&mut self) -> Result<()> {
        let next = self.tasks.lock().iter().position(|t| t.id.is_none());
        let Some(place) = next else { return Ok(()) };
        let request = request(self.seed, place, &self.tasks.lock()[place].workflow);
        if self.chance.permille(150) && !self.faults.enough() {
            let cut = if self.chance.permille(500) { Cut::Before } else { Cut::Inside };
            let order = Order { statement: "tasker.submit_", cut, times: 1 + self.chance.below(2) };
            note_cuts(&self.faults, &self.process.proxy.order(Some(order)));
        }
        let answer = self.process.engine.submit(request, None).await;
        let mut tasks = self.tasks.lock();
        let task = &mut tasks[place];
        match answer {
            Ok(submitted) => task.id = Some(submitted.task),
            Err(SubmitError::Duplicate { task: id, .. }) if task.doubtful => task.id = Some(id),
            Err(SubmitError::Unconfirmed { .. }) => task.doubtful = true,
            // Certainly not accepted: a later try that meets a task of the same identity fails the seed.
            Err(SubmitError::Store(StoreError::Unavailable(_))) => {}
            Err(e) => bail!("submit: {e}"),
        }
        Ok(())
    }

    async fn cancel(&mut self) -> Result<()> {
        let chosen = {
            let tasks = self.tasks.lock();
            let place = self.chance.below(tasks.len());
            let cancelled = tasks.iter().filter(|t| t.actions.cancelled).count();
            tasks[place].id.filter(|_| cancelled < 2 && !tasks[place].actions.cancelled).map(|id| (place, id))
        };
        let Some((place, id)) = chosen else { return Ok(()) };
        let cancelled = match self.process.engine.cancel_task(id, by()).await {
            Err(OperatorError::Store(StoreError::Unavailable(_) | StoreError::Unanswered(_))) => {
                audited(self.rig, id, None, "cancel_task").await? > 0
            }
            other => done(other)?,
        };
        if cancelled {
            self.tasks.lock()[place].actions.cancel();
        }
        Ok(())
    }

    /// When nothing moves any more, operators retry some failed steps.
    async fn try_again(&mut self) -> Result<()> {
        for Choice { id, place, lease } in choices(self.rig, FAILED).await? {
            if self.chance.permille(500) {
                {
                    let actions = &mut self.tasks.lock()[place].actions;
                    actions.begin_budget(id.no, lease);
                    actions.count("retry_step");
                }
                // A previous order may still be pending.
                note_cuts(&self.faults, &self.process.proxy.order(None));
                self.process.engine.retry_step(id, by()).await?;
            }
        }
        Ok(())
    }
}
