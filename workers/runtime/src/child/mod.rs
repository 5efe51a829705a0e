//! Supervises a child process: sends it steps over a pipe, enforces their timeouts, and restarts it when it ends. The steps that ran
//! beside the cause of such an end are set aside: from then on each runs alone in a process ([`aside`]), of which there are only as many
//! as are needed. So new steps are not delayed, and no step is thrown back twice for another's fault. [`in_flight`] decides which step is
//! blamed.

mod aside;
mod command;
mod in_flight;
mod lines;
mod log_fields;
mod logs;
mod outline;
mod process;
mod protocol;
mod spawn;
mod startup;

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tasker_wire::{
    Lease, Outcome, RunStep,
    child::{Empty, HeldLine, StepLine, StopLine, write_line},
    limits,
    outcome::Failure,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval_at, sleep, sleep_until},
};

pub(crate) use aside::Aside;
pub use command::{BadCommand, Command};
pub(crate) use process::ChildProcess;
pub use process::StartError;

use crate::{
    Gate, WorkerSettings,
    executor::{Capacity, Report},
    pause::Awake,
};
use in_flight::{Ended, InFlight, Running, Stopped, Waiting};
use lines::Next;
use log_fields::LogFields;
use protocol::Line;

/// Why the run of a child ends.
enum End {
    /// It is no longer needed.
    Closed,
    /// It died or violated the protocol.
    Died(String),
    /// It must be killed because of these steps. The other steps are not to blame.
    Culprits(&'static str, Vec<(Running, Outcome)>),
}

/// The executor is closed: no more steps arrive, or nothing receives reports.
struct Closed;

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

/// Runs steps in one child after the other until the executor is closed.
pub(crate) async fn supervise(common: Common, first: ChildProcess, steps: mpsc::Receiver<Arc<RunStep>>) {
    let places = common.settings.max_concurrent_handlers.max(1);
    let main = Supervisor::new(&common, Lane::Main(steps), places);
    let alone = (0..limits::LONE_PROCESSES).map(|_| Supervisor::new(&common, Lane::Alone, 1).run_on_demand());
    let _closed = tokio::join!(main.keep_running(first), join_all(alone), tend_those_aside(&common));
}

/// Shared by all supervisors.
pub(crate) struct Common {
    pub command: Command,
    pub settings: WorkerSettings,
    pub gate: Option<Arc<dyn Gate>>,
    pub reports: mpsc::Sender<Report>,
    pub capacity: watch::Sender<Capacity>,
    /// Steps whose outcomes are no longer needed.
    pub unwanted: watch::Receiver<HashSet<Lease>>,
    pub aside: Aside,
}

impl Common {
    async fn report(&self, report: Report) -> Result<(), Closed> {
        self.reports.send(report).await.map_err(|_| Closed)
    }

    /// A step that was set aside is answered. Called before the report, so that the worker's loop never sees more capacity than there is.
    fn leaves_aside(&self) {
        self.capacity.send_modify(|capacity| capacity.aside -= 1);
    }
}

/// Reports that the steps that wait aside are not lost, and removes those that are no longer wanted.
async fn tend_those_aside(common: &Common) -> Result<(), Closed> {
    let beat = Duration::from_secs(limits::HEARTBEAT_SECONDS);
    let mut beats = interval_at(Instant::now() + beat, beat);
    let mut unwanted = common.unwanted.clone();
    loop {
        tokio::select! {
            () = common.reports.closed() => return Err(Closed),
            _ = beats.tick() => for step in common.aside.reported() {
                common.report(Report { step, outcome: Outcome::Heartbeat {}, execution_time_ms: 0 }).await?;
            },
            Ok(()) = unwanted.changed() => {
                let removed = common.aside.remove(&unwanted.borrow_and_update());
                for step in removed {
                    common.leaves_aside();
                    common.report(Report { step, outcome: Outcome::Released {}, execution_time_ms: 0 }).await?;
                }
            }
        }
    }
}

enum Lane {
    /// Runs new steps concurrently.
    Main(mpsc::Receiver<Arc<RunStep>>),
    /// Runs the steps that were set aside, one at a time.
    Alone,
}

impl Lane {
    /// Waits for new steps and returns how many came; 0 if no more will. Never returns for a lane that runs none.
    async fn receive(&mut self, steps: &mut Vec<Arc<RunStep>>, most: usize) -> usize {
        match self {
            Self::Main(new) => new.recv_many(steps, most).await,
            Self::Alone => std::future::pending().await,
        }
    }

    fn is_main(&self) -> bool {
        matches!(self, Self::Main(_))
    }
}

struct Supervisor<'a> {
    common: &'a Common,
    lane: Lane,
    in_flight: InFlight,
    /// See [`Common::unwanted`].
    unwanted: watch::Receiver<HashSet<Lease>>,
    /// Pending decisions of the gate, by the step's number. `Some` refuses the step.
    decisions: FuturesUnordered<BoxFuture<'static, (u64, Option<Outcome>)>>,
    /// Consecutive children that died soon, before they had a step. The pause before the next one grows with this number.
    crashes_in_a_row: u32,
    /// Whether the current child had a step.
    had_a_step: bool,
}

impl<'a> Supervisor<'a> {
    fn new(common: &'a Common, lane: Lane, places: usize) -> Self {
        Self {
            common,
            lane,
            in_flight: InFlight::with_places(places),
            unwanted: common.unwanted.clone(),
            decisions: FuturesUnordered::new(),
            crashes_in_a_row: 0,
            had_a_step: false,
        }
    }

    /// Always keeps a child.
    async fn keep_running(mut self, first: ChildProcess) -> Result<(), Closed> {
        let mut child = first;
        loop {
            self.set_ready(true);
            self.run_and_reap(child).await?;
            child = self.start_again().await?;
        }
    }

    /// Keeps a child while there are steps for it.
    async fn run_on_demand(mut self) -> Result<(), Closed> {
        loop {
            let starting = tokio::select! {
                () = self.common.reports.closed() => return Err(Closed),
                starting = self.common.aside.needs_process() => starting,
            };
            // The step waits aside until the process is ready, so that it goes to the first one that is.
            let child = self.start_again().await?;
            self.take_from_aside();
            drop(starting);
            // `Closed` may only mean idle here.
            let _ = self.run_and_reap(child).await;
        }
    }

    /// Whether a lone child has nothing to do. Takes its next step.
    fn is_idle(&mut self) -> bool {
        if self.lane.is_main() {
            return false;
        }
        self.take_from_aside();
        self.in_flight.is_empty()
    }

    fn take_from_aside(&mut self) {
        if self.in_flight.is_empty() {
            self.common.aside.take().into_iter().for_each(|step| self.in_flight.take(step));
        }
    }

    fn set_ready(&self, ready: bool) {
        if self.lane.is_main() {
            self.common.capacity.send_modify(|capacity| capacity.ready = ready);
        }
    }

    /// Runs steps in one child, and ends it.
    async fn run_and_reap(&mut self, mut child: ChildProcess) -> Result<(), Closed> {
        self.had_a_step = false;
        let began = Instant::now();
        let Err(end) = self.run(&mut child).await;
        self.set_ready(false);
        self.decisions.clear();
        match end {
            End::Closed => {
                child.stop().await;
                return Err(Closed);
            }
            End::Culprits(why, culprits) => self.kill(child, why, culprits).await?,
            End::Died(reason) => {
                self.bury(child, &reason).await?;
                if !self.had_a_step && began.elapsed() < self.common.settings.longest_restart_pause {
                    self.crashed(&reason);
                    return Ok(());
                }
            }
        }
        self.crashes_in_a_row = 0;
        Ok(())
    }

    /// Kills a child because of some of its steps. They are answered only when it has ended, so that no retry overlaps its predecessor.
    async fn kill(
        &mut self,
        mut child: ChildProcess,
        why: &'static str,
        mut culprits: Vec<(Running, Outcome)>,
    ) -> Result<(), Closed> {
        child.end().await;
        // What its other steps answered until now counts.
        match self.last_lines(&mut child, String::new()).await {
            End::Closed => return Err(Closed),
            End::Culprits(_, more) => culprits.extend(more),
            End::Died(_) => {}
        }
        let LogFields { task_id, step, attempt, correlation_id } = culprits.iter().map(|(running, _)| &*running.step).collect();
        let Ended { stopped, thrown_back, .. } = self.in_flight.spare();
        let (pool, pid, set_aside) = (&self.common.settings.pool, child.process.pid, thrown_back.len());
        tracing::warn!(pool, pid, task_id, step, attempt, correlation_id, set_aside, "{why}; the child process was killed");
        self.set_aside(thrown_back);
        for (running, outcome) in culprits {
            self.answer(running, outcome).await?;
        }
        self.answer_stopped(stopped).await?;
        child.kill().await;
        Ok(())
    }

    /// Ends what is left of a child that died.
    async fn bury(&mut self, child: ChildProcess, reason: &str) -> Result<(), Closed> {
        let pid = child.process.pid;
        let stderr = child.kill().await;
        let ended = self.in_flight.crash();
        let LogFields { task_id, step, attempt, correlation_id } = ended.steps().collect();
        let Ended { in_flight, blamed, stopped, thrown_back } = ended;
        let pool = &self.common.settings.pool;
        tracing::warn!(pool, pid, in_flight, task_id, step, attempt, correlation_id, "the child process died: {reason}");
        self.set_aside(thrown_back);
        self.answer_stopped(stopped).await?;
        match blamed {
            Some(blamed) => self.answer(blamed, crashed(reason, &stderr)).await,
            None => Ok(()),
        }
    }

    fn set_aside(&self, steps: Vec<Waiting>) {
        if self.lane.is_main() {
            self.common.capacity.send_modify(|capacity| capacity.aside += steps.len());
        }
        self.common.aside.put(steps);
    }

    /// Answers steps that were told to stop, and did not answer before their process ended.
    async fn answer_stopped(&mut self, stopped: Vec<Running>) -> Result<(), Closed> {
        for running in stopped {
            self.answer(running, Outcome::Released {}).await?;
        }
        Ok(())
    }

    /// Starts the command again and again until it is ready.
    async fn start_again(&mut self) -> Result<ChildProcess, Closed> {
        loop {
            let (common, pause) = (self.common, self.pause_length());
            let start = async move {
                sleep(pause).await;
                ChildProcess::start(&common.command, &common.settings).await
            };
            let started = tokio::select! {
                biased;
                () = self.common.reports.closed() => return Err(Closed),
                started = start => started,
            };
            match started {
                Ok(child) => return Ok(child),
                Err(error) => self.crashed(&error.to_string()),
            }
        }
    }

    /// Counts a child that ended before it had a step, and says so.
    fn crashed(&mut self, reason: &str) {
        self.crashes_in_a_row += 1;
        let (pool, times, again_in_ms) =
            (&self.common.settings.pool, self.crashes_in_a_row, self.pause_length().as_millis() as u64);
        tracing::error!(
            pool,
            times,
            again_in_ms,
            "a worker's process ended {times} times in a row before it had a step; it is started again in {again_in_ms} ms, and steps \
             wait without using an attempt; the last time: {reason}"
        );
    }

    fn pause_length(&self) -> Duration {
        let WorkerSettings { restart_pause, longest_restart_pause, .. } = self.common.settings;
        match self.crashes_in_a_row {
            0 => Duration::ZERO,
            crashes => restart_pause.saturating_mul(1 << (crashes - 1).min(16)).min(longest_restart_pause),
        }
    }

    async fn run(&mut self, child: &mut ChildProcess) -> Result<Infallible, End> {
        let mut steps = Vec::new();
        let places = self.common.settings.max_concurrent_handlers.max(1);
        let mut awake = Awake::since(Instant::now());
        let alarm = sleep_until(Instant::now());
        tokio::pin!(alarm);
        loop {
            self.look_at_the_time(&mut awake, child).await?;
            if self.is_idle() {
                return Err(End::Closed);
            }
            self.start_steps(child).await?;
            let look_at = self.in_flight.next_deadline().map(|deadline| deadline.min(awake.next_tick()));
            // The alarm only moves to an earlier time: an early alarm is cheap, and resetting it for every step is not.
            if let Some(look_at) = look_at.filter(|look_at| *look_at < alarm.deadline() || alarm.is_elapsed()) {
                alarm.as_mut().reset(look_at);
            }
            tokio::select! {
                () = self.common.reports.closed() => return Err(End::Closed),
                read = child.lines.fill() => match read {
                    Ok(1..) => self.read_lines(child).await?,
                    _ => return Err(End::Died(child.cause_of_death().await)),
                },
                count = self.lane.receive(&mut steps, places) => {
                    if count == 0 {
                        return Err(End::Closed);
                    }
                    steps.drain(..).for_each(|step| self.in_flight.take(step));
                }
                Ok(()) = self.unwanted.changed() => self.stop_unwanted(child),
                Some((id, refusal)) = self.decisions.next() => self.decided(id, refusal, child).await?,
                written = child.input.flush(), if !child.input.bytes.is_empty() => if written.is_err() {
                    let reason = child.cause_of_death().await;
                    return Err(self.last_lines(child, reason).await);
                },
                status = child.process.wait() => {
                    let reason = status.map_or_else(|error| format!("its exit status cannot be read: {error}"), process::describe);
                    return Err(self.last_lines(child, reason).await);
                }
                // Each tick while steps run, and never while none does.
                () = &mut alarm, if look_at.is_some() => self.ask(child),
            }
        }
    }

    /// Asks the child whether it still has the steps that it has had for long.
    fn ask(&mut self, child: &mut ChildProcess) {
        let asked = self.in_flight.ask(self.common.settings.look_for_lost, Instant::now());
        asked.into_iter().for_each(|id| write_line(&HeldLine { id, held: Empty {} }, &mut child.input.bytes));
    }

    /// Stops steps that are late. What the child has written until now counts, however late it is read.
    async fn look_at_the_time(&mut self, awake: &mut Awake, child: &mut ChildProcess) -> Result<(), End> {
        let now = Instant::now();
        if let Some(pause) = awake.pause(now).filter(|_| self.in_flight.next_deadline().is_some()) {
            let (pool, pause_ms) = (&self.common.settings.pool, pause.as_millis() as u64);
            tracing::warn!(pool, pause_ms, "this worker stood still; its steps are given that time again");
            self.in_flight.postpone(pause, now);
        }
        if self.in_flight.next_deadline().is_some_and(|deadline| deadline <= now) {
            child.lines.fill_now();
            self.read_lines(child).await?;
            self.stop_late(now, child)?;
        }
        Ok(())
    }

    /// Starts steps while there are places, each after the decision of its gate.
    async fn start_steps(&mut self, child: &mut ChildProcess) -> Result<(), Closed> {
        while let Some((id, step)) = self.in_flight.admit() {
            let Some(gate) = self.common.gate.clone() else {
                self.start(id, child).await?;
                continue;
            };
            let step = step.clone();
            self.decisions.push(async move { (id, gate.refusal(&step).await) }.boxed());
        }
        Ok(())
    }

    async fn decided(&mut self, id: u64, refusal: Option<Outcome>, child: &mut ChildProcess) -> Result<(), Closed> {
        let Some(outcome) = refusal else { return self.start(id, child).await };
        self.refuse(id, outcome).await
    }

    async fn refuse(&mut self, id: u64, outcome: Outcome) -> Result<(), Closed> {
        let Some(step) = self.in_flight.refuse(id) else { return Ok(()) };
        self.report_end(Report { step, outcome, execution_time_ms: 0 }).await
    }

    async fn start(&mut self, id: u64, child: &mut ChildProcess) -> Result<(), Closed> {
        if self.in_flight.at_gate(id).is_some_and(|step| self.common.unwanted.borrow().contains(&step.lease())) {
            return self.refuse(id, Outcome::Released {}).await;
        }
        let Some(Running { step, .. }) = self.in_flight.start(id, Instant::now()) else { return Ok(()) };
        self.had_a_step = true;
        write_line(&StepLine { id, step }, &mut child.input.bytes);
        if !step.report_start {
            return Ok(());
        }
        let started = Report { step: step.clone(), outcome: Outcome::Started {}, execution_time_ms: 0 };
        self.common.report(started).await
    }

    async fn read_lines(&mut self, child: &mut ChildProcess) -> Result<(), End> {
        loop {
            let line = match child.lines.next() {
                Next::Partial => return Ok(()),
                Next::Line(line) => protocol::read(line),
                Next::Outline(line) => protocol::read_outline(&line),
                Next::TooLong(start) => {
                    let (id, shown) = (protocol::id_at_start(start), protocol::excerpt(start));
                    return Err(self.too_long(id, &shown).await?);
                }
            };
            self.handle(line).await?;
        }
    }

    async fn handle(&mut self, line: Line) -> Result<(), End> {
        let (id, outcome) = match line {
            Line::Heartbeat(id) => return self.heartbeat(id).await,
            Line::Held(id, held) => return self.held(id, held).await,
            Line::Garbage(excerpt) => {
                return Err(End::Died(format!("it wrote a line that is not in the worker protocol: `{excerpt}`")));
            }
            Line::Outcome(id, outcome) => (id, *outcome),
            Line::BadOutcome(id, why) => {
                let message = format!("the worker answered with an invalid outcome: {why}");
                (id, Outcome::Failure(Failure::permanent("invalid_outcome", message)))
            }
        };
        let Some(running) = self.in_flight.finish(id) else {
            return Err(End::Died(format!("it answered step number {id}, which it does not have")));
        };
        if running.stopped == Some(Stopped::Late) {
            let LogFields { task_id, step, attempt, correlation_id } = std::iter::once(&*running.step).collect();
            tracing::warn!(pool = self.common.settings.pool, task_id, step, attempt, correlation_id, "{LATE}; it was stopped");
        }
        Ok(self.answer(running, outcome).await?)
    }

    async fn heartbeat(&mut self, id: u64) -> Result<(), End> {
        let now = Instant::now();
        if !self.in_flight.was_issued(id) {
            return Err(End::Died(format!("it sent a heartbeat of step number {id}, which it never had")));
        }
        // A heartbeat that crosses the answer of its own step is ignored.
        let Some(running) = self.in_flight.running(id) else { return Ok(()) };
        if !running.step.report_start || now < running.next_heartbeat {
            return Ok(());
        }
        running.next_heartbeat = now + Duration::from_secs(limits::HEARTBEAT_SECONDS);
        let execution_time_ms = (now - running.began).as_millis() as u64;
        let report = Report { step: running.step.clone(), outcome: Outcome::Heartbeat {}, execution_time_ms };
        Ok(self.common.report(report).await?)
    }

    /// The child says whether it still has a step. A step that it lost is dropped without a report, so that the worker's loop finds that
    /// nobody has it. One that was told to stop is not to run again, so it is answered.
    async fn held(&mut self, id: u64, held: bool) -> Result<(), End> {
        if !self.in_flight.was_issued(id) {
            return Err(End::Died(format!("it said whether it has step number {id}, which it never had")));
        }
        if held {
            return Ok(());
        }
        // A reply that crosses the answer of its own step is ignored.
        let Some(running) = self.in_flight.finish(id) else { return Ok(()) };
        if running.stopped.is_some() {
            return Ok(self.answer(running, Outcome::Released {}).await?);
        }
        let LogFields { task_id, step, attempt, correlation_id } = std::iter::once(&*running.step).collect();
        tracing::warn!(pool = self.common.settings.pool, task_id, step, attempt, correlation_id, "the child process lost a step");
        if !self.lane.is_main() {
            self.common.leaves_aside();
        }
        Ok(())
    }

    async fn too_long(&mut self, id: Option<u64>, shown: &str) -> Result<End, Closed> {
        let Some(running) = id.and_then(|id| self.in_flight.finish(id)) else {
            return Ok(End::Died(format!("it wrote a line of more than {} bytes: `{shown}`", limits::WORKER_LINE_BYTES)));
        };
        // The rest of the line seems to be endless.
        Ok(End::Culprits("a step answered more than is allowed", vec![(running, protocol::too_large())]))
    }

    /// Tells late steps to stop. Those that did not stop in time are the culprits of the child's end.
    fn stop_late(&mut self, now: Instant, child: &mut ChildProcess) -> Result<(), End> {
        tell_to_stop(&self.in_flight.stop_late(now), child);
        let overdue = self.in_flight.overdue(now);
        let why = match overdue.first().and_then(|running| running.stopped) {
            None => return Ok(()),
            Some(Stopped::Late) => LATE,
            Some(Stopped::Unwanted) => "the handler of a cancelled step did not stop",
        };
        Err(End::Culprits(why, overdue.into_iter().map(|running| (running, Outcome::Released {})).collect()))
    }

    fn stop_unwanted(&mut self, child: &mut ChildProcess) {
        let unwanted = self.unwanted.borrow_and_update();
        tell_to_stop(&self.in_flight.stop_unwanted(&unwanted, Instant::now()), child);
    }

    /// Reads what the child wrote before it died, which still counts.
    async fn last_lines(&mut self, child: &mut ChildProcess, reason: String) -> End {
        child.lines.fill_now();
        match self.read_lines(child).await {
            Err(end @ (End::Closed | End::Culprits(..))) => end,
            Ok(()) | Err(End::Died(_)) => End::Died(reason),
        }
    }

    /// Reports the outcome of a step that the child no longer has. A late step has timed out, whatever it answered then.
    async fn answer(&mut self, running: Running, outcome: Outcome) -> Result<(), Closed> {
        let execution_time_ms = running.began.elapsed().as_millis() as u64;
        let is_late = running.stopped == Some(Stopped::Late);
        let outcome = if is_late { timed_out(&running.step) } else { outcome };
        self.report_end(Report { step: running.step, outcome, execution_time_ms }).await
    }

    async fn report_end(&mut self, report: Report) -> Result<(), Closed> {
        if !self.lane.is_main() {
            self.common.leaves_aside();
        }
        self.common.report(report).await
    }
}

fn tell_to_stop(steps: &[u64], child: &mut ChildProcess) {
    steps.iter().for_each(|&id| write_line(&StopLine { id, stop: Empty {} }, &mut child.input.bytes));
}

const LATE: &str = "a step exceeded its timeout";

/// The failure of a step that is blamed for the death of its process.
fn crashed(reason: &str, stderr: &[String]) -> Outcome {
    let message = format!("the child process died {} times while it ran only this step; the last time {reason}", limits::LOSSES);
    let context = (!stderr.is_empty()).then(|| serde_json::json!({ "stderr": stderr }));
    Outcome::Failure(Failure { context, ..Failure::retryable("worker_crashed", message) })
}

/// The failure of a step that exceeded its timeout.
fn timed_out(step: &RunStep) -> Outcome {
    let message = format!("the handler ran longer than its timeout_seconds ({})", step.timeout_seconds);
    Outcome::Failure(Failure::retryable("timeout", message))
}
