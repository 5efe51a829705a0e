//! Supervises a child process: sends it steps over a pipe, enforces their timeouts, and restarts it when it dies. The steps of a dead
//! child move to the *quarantine*: a second child of the same command that runs one step at a time and exists only while needed. So one
//! crash does not delay later steps. [`in_flight`] decides which step is blamed for a death.

mod command;
mod in_flight;
mod lines;
mod log_fields;
mod logs;
mod process;
mod protocol;
mod spawn;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tasker_wire::{
    Outcome, RunStep,
    child::{StepLine, write_line},
    limits,
    outcome::Failure,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

pub use command::{BadCommand, Command};
pub(crate) use process::ChildProcess;
pub use process::StartError;

use crate::{
    Gate, WorkerSettings,
    executor::{Capacity, Report},
    pause::Awake,
};
use in_flight::{Death, InFlight, Running, Waiting};
use lines::Next;
use log_fields::LogFields;
use protocol::Line;

/// Why the run of a child ends.
enum End {
    /// It is no longer needed.
    Closed,
    /// It died or violated the protocol.
    Died(String),
    /// Steps exceeded their timeout or answered too much. Their failures are reported; the other steps are not to blame.
    Culprits(&'static str, LogFields),
}

/// The executor is closed: no more steps arrive, or nothing receives reports.
struct Closed;

impl From<Closed> for End {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

/// Runs steps in one child after the other until the executor is closed.
pub(crate) async fn supervise(
    common: Common,
    first: ChildProcess,
    steps: mpsc::Receiver<Arc<RunStep>>,
    suspects: mpsc::Receiver<Waiting>,
) {
    let places = common.settings.max_concurrent_handlers.max(1);
    let main = Supervisor::new(&common, Lane::Main, steps, places);
    let quarantine = Supervisor::new(&common, Lane::Quarantine, suspects, 1);
    let _closed = tokio::join!(main.keep_running(first), quarantine.run_on_demand());
}

/// Shared by both supervisors.
pub(crate) struct Common {
    pub command: Command,
    pub settings: WorkerSettings,
    pub gate: Option<Arc<dyn Gate>>,
    pub reports: mpsc::Sender<Report>,
    pub capacity: watch::Sender<Capacity>,
    /// To the quarantine.
    pub suspects: mpsc::Sender<Waiting>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Runs new steps concurrently.
    Main,
    /// Runs the steps of a dead child, one at a time.
    Quarantine,
}

struct Supervisor<'a, T> {
    common: &'a Common,
    lane: Lane,
    steps: mpsc::Receiver<T>,
    in_flight: InFlight,
    /// Pending decisions of the gate, by the step's number. `Some` refuses the step.
    decisions: FuturesUnordered<BoxFuture<'static, (u64, Option<Outcome>)>>,
    /// Consecutive children that died before they had a step. The pause before the next one grows with this number.
    crashes_in_a_row: u32,
    /// Whether the current child had a step.
    had_a_step: bool,
}

impl<'a, T: Into<Waiting>> Supervisor<'a, T> {
    fn new(common: &'a Common, lane: Lane, steps: mpsc::Receiver<T>, places: usize) -> Self {
        let in_flight = InFlight::with_places(places);
        Self { common, lane, steps, in_flight, decisions: FuturesUnordered::new(), crashes_in_a_row: 0, had_a_step: false }
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

    /// Keeps a child while there are steps.
    async fn run_on_demand(mut self) -> Result<(), Closed> {
        loop {
            self.wait_for_step().await?;
            let child = self.start_again().await?;
            // `Closed` may only mean idle here.
            let _ = self.run_and_reap(child).await;
        }
    }

    async fn wait_for_step(&mut self) -> Result<(), Closed> {
        if self.in_flight.is_empty() {
            tokio::select! {
                () = self.common.reports.closed() => return Err(Closed),
                step = self.steps.recv() => self.in_flight.take(step.ok_or(Closed)?),
            }
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.lane == Lane::Quarantine && self.in_flight.is_empty() && self.steps.is_empty()
    }

    fn set_ready(&self, ready: bool) {
        if self.lane == Lane::Main {
            self.common.capacity.send_modify(|capacity| capacity.ready = ready);
        }
    }

    /// Runs steps in one child, and ends it.
    async fn run_and_reap(&mut self, mut child: ChildProcess) -> Result<(), Closed> {
        self.had_a_step = false;
        let Err(end) = self.run(&mut child).await;
        self.set_ready(false);
        self.decisions.clear();
        let (pool, pid) = (&self.common.settings.pool, child.process.pid);
        match end {
            End::Closed => {
                child.stop().await;
                return Err(Closed);
            }
            End::Culprits(why, LogFields { task_id, step, attempt, correlation_id }) => {
                self.in_flight.spare();
                child.kill().await;
                tracing::warn!(pool, pid, task_id, step, attempt, correlation_id, "{why}; the child process was killed");
            }
            End::Died(reason) => {
                let stderr = child.kill().await;
                let death = self.in_flight.crash();
                let LogFields { task_id, step, attempt, correlation_id } = death.steps().collect();
                let Death { in_flight, blamed, suspects } = death;
                tracing::warn!(pool, pid, in_flight, task_id, step, attempt, correlation_id, "the child process died: {reason}");
                self.quarantine(suspects).await;
                if let Some(blamed) = blamed {
                    self.answer(blamed, crashed(&reason, &stderr)).await?;
                }
            }
        }
        self.crashes_in_a_row = if self.had_a_step { 0 } else { self.crashes_in_a_row + 1 };
        Ok(())
    }

    async fn quarantine(&mut self, suspects: Vec<Waiting>) {
        if self.lane == Lane::Main {
            self.common.capacity.send_modify(|capacity| capacity.aside += suspects.len());
        }
        for suspect in suspects {
            // The channel is open while both children are supervised.
            let _ = self.common.suspects.send(suspect).await;
        }
    }

    /// Starts the command again and again until it is ready.
    async fn start_again(&mut self) -> Result<ChildProcess, Closed> {
        loop {
            self.pause().await?;
            match ChildProcess::start(&self.common.command, &self.common.settings).await {
                Ok(child) => return Ok(child),
                Err(error) => {
                    self.crashes_in_a_row += 1;
                    let again_in_ms = self.pause_length().as_millis() as u64;
                    tracing::error!(pool = self.common.settings.pool, again_in_ms, "{error}");
                }
            }
        }
    }

    fn pause_length(&self) -> Duration {
        let WorkerSettings { restart_pause, longest_restart_pause, .. } = self.common.settings;
        match self.crashes_in_a_row {
            0 => Duration::ZERO,
            crashes => restart_pause.saturating_mul(1 << (crashes - 1).min(16)).min(longest_restart_pause),
        }
    }

    async fn pause(&mut self) -> Result<(), Closed> {
        let over = Instant::now() + self.pause_length();
        loop {
            tokio::select! {
                biased;
                () = self.common.reports.closed() => return Err(Closed),
                step = self.steps.recv() => self.in_flight.take(step.ok_or(Closed)?),
                () = sleep_until(over) => return Ok(()),
            }
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
            self.start_steps(child).await?;
            if self.is_idle() {
                return Err(End::Closed);
            }
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
                count = self.steps.recv_many(&mut steps, places) => {
                    if count == 0 {
                        return Err(End::Closed);
                    }
                    steps.drain(..).for_each(|step| self.in_flight.take(step));
                }
                Some((id, refusal)) = self.decisions.next() => self.decided(id, refusal, child).await?,
                written = child.input.flush(), if !child.input.bytes.is_empty() => if written.is_err() {
                    let reason = child.cause_of_death().await;
                    return Err(self.last_lines(child, reason).await);
                },
                status = child.process.wait() => {
                    let reason = status.map_or_else(|error| format!("its exit status cannot be read: {error}"), process::describe);
                    return Err(self.last_lines(child, reason).await);
                }
                () = &mut alarm, if look_at.is_some() => {}
            }
        }
    }

    /// Ends steps that are late. What the child has written until now counts, however late it is read.
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
            self.time_out(now).await?;
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
        let Some(step) = self.in_flight.refuse(id) else { return Ok(()) };
        self.report_end(Report { step, outcome, execution_time_ms: 0 }).await
    }

    async fn start(&mut self, id: u64, child: &mut ChildProcess) -> Result<(), Closed> {
        let Some(Running { step, .. }) = self.in_flight.start(id, Instant::now()) else { return Ok(()) };
        self.had_a_step = true;
        write_line(&StepLine { id, step }, &mut child.input.bytes);
        if !step.report_start {
            return Ok(());
        }
        let started = Report { step: step.clone(), outcome: Outcome::Started {}, execution_time_ms: 0 };
        self.report(started).await
    }

    async fn read_lines(&mut self, child: &mut ChildProcess) -> Result<(), End> {
        loop {
            let line = match child.lines.next() {
                Next::Partial => return Ok(()),
                Next::Line(line) => protocol::read(line),
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
        Ok(self.report(report).await?)
    }

    async fn too_long(&mut self, id: Option<u64>, shown: &str) -> Result<End, Closed> {
        let Some(running) = id.and_then(|id| self.in_flight.finish(id)) else {
            return Ok(End::Died(format!("it wrote a line of more than {} bytes: `{shown}`", limits::WORKER_LINE_BYTES)));
        };
        let (most, kept) = (limits::WORKER_LINE_BYTES, limits::RESULT_BYTES);
        let message = format!(
            "the outcome has more than {most} bytes; at most {kept} are allowed. Store the data elsewhere and return a reference"
        );
        let culprit = std::iter::once(&*running.step).collect();
        self.answer(running, Outcome::Failure(Failure::permanent("result_too_large", message))).await?;
        // The rest of the line may be endless.
        Ok(End::Culprits("a step answered more than is allowed", culprit))
    }

    async fn time_out(&mut self, now: Instant) -> Result<(), End> {
        let late = self.in_flight.overdue(now);
        if late.is_empty() {
            return Ok(());
        }
        let culprits = late.iter().map(|running| &*running.step).collect();
        for running in late {
            let outcome = timed_out(&running.step);
            self.answer(running, outcome).await?;
        }
        Err(End::Culprits("a step exceeded its timeout", culprits))
    }

    /// Reads what the child wrote before it died, which still counts.
    async fn last_lines(&mut self, child: &mut ChildProcess, reason: String) -> End {
        child.lines.fill_now();
        match self.read_lines(child).await {
            Err(end @ (End::Closed | End::Culprits(..))) => end,
            Ok(()) | Err(End::Died(_)) => End::Died(reason),
        }
    }

    /// Reports the outcome of a step that the child no longer has.
    async fn answer(&mut self, running: Running, outcome: Outcome) -> Result<(), Closed> {
        let execution_time_ms = running.began.elapsed().as_millis() as u64;
        self.report_end(Report { step: running.step, outcome, execution_time_ms }).await
    }

    async fn report_end(&mut self, report: Report) -> Result<(), Closed> {
        if self.lane == Lane::Quarantine {
            // Before the report, so that the worker's loop never sees more capacity than there is.
            self.common.capacity.send_modify(|capacity| capacity.aside -= 1);
        }
        self.report(report).await
    }

    async fn report(&mut self, report: Report) -> Result<(), Closed> {
        self.common.reports.send(report).await.map_err(|_| Closed)
    }
}

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
