//! Supervises a child process: hands it steps over its pipes, enforces their time, and starts it again when it dies. The steps
//! that it then had in its hands move to the *quarantine*, a second child of the same command that runs one at a time and is
//! there only while it is needed; so one crash does not hold up what comes after it. Who is blamed for a death is [`flight`]'s
//! to say.

mod command;
mod concerned;
mod flight;
mod life;
mod lines;
mod logs;
mod protocol;
mod spawn;

use std::{sync::Arc, time::Duration};

use tasker_wire::{Outcome, RunStep, limits, outcome::Failure};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

pub use command::{BadCommand, Command};
pub(crate) use life::Life;
pub use life::StartError;

use crate::{
    Settings,
    executor::{Capacity, Ends, Report},
    in_process::timed_out,
};
use concerned::LogFields;
use flight::{InFlight, Running, Waiting};
use lines::Next;
use protocol::Line;

/// How one life of the child ended.
enum End {
    /// Nobody wants anything of it any more.
    Closed,
    /// It died, or broke the protocol.
    Died(String),
    /// Steps were over their time or answered too much; they were answered for, the others are not to blame.
    Culprits(&'static str, LogFields),
}

/// Runs steps in one child after the other, until no more steps can come.
pub(crate) async fn supervise(command: Command, settings: Settings, first: Life, ends: Ends) {
    let Ends { steps, reports, room } = ends;
    let places = settings.max_concurrent_handlers.max(1);
    // `run` hands out no more than this in all (see `Capacity`), so a suspect never waits to get in.
    let (suspects, suspected) = mpsc::channel(2 * places);
    let common = Common { command, settings, reports, room, suspects };
    let main = Supervisor::new(&common, Lane::Main, steps, places);
    let quarantine = Supervisor::new(&common, Lane::Quarantine, suspected, 1);
    tokio::join!(main.keep_alive(first), quarantine.live_on_demand());
}

/// What both children have in common.
struct Common {
    command: Command,
    settings: Settings,
    reports: mpsc::Sender<Report>,
    room: watch::Sender<Capacity>,
    /// The way into the quarantine.
    suspects: mpsc::Sender<Waiting>,
}

/// Which of the two children it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// Runs new steps, all at once.
    Main,
    /// Runs those whose child died, one at a time.
    Quarantine,
}

struct Supervisor<'a, T> {
    common: &'a Common,
    lane: Lane,
    inbox: mpsc::Receiver<T>,
    flight: InFlight,
    /// Lives in a row in which the child was of no use; the pause before the next one grows with them.
    useless_lives: u32,
    /// Whether the current life had a step in its hands at all.
    useful: bool,
}

impl<'a, T: Into<Waiting>> Supervisor<'a, T> {
    fn new(common: &'a Common, lane: Lane, inbox: mpsc::Receiver<T>, places: usize) -> Self {
        Self { common, lane, inbox, flight: InFlight::with_places(places), useless_lives: 0, useful: false }
    }

    /// Always has a child.
    async fn keep_alive(mut self, first: Life) {
        let mut life = Some(first);
        while let Some(current) = life {
            self.set_ready(true);
            let wanted = self.live_and_bury(current).await;
            life = if wanted.is_some() { self.begin_again().await } else { None };
        }
    }

    /// Has a child while it has steps.
    async fn live_on_demand(mut self) {
        while self.is_needed().await.is_some() {
            let Some(life) = self.begin_again().await else { return };
            // Whether another life is wanted is asked above.
            let _ = self.live_and_bury(life).await;
        }
    }

    /// Waits until it has a step. `None`: none will come any more.
    async fn is_needed(&mut self) -> Option<()> {
        if self.flight.is_empty() {
            tokio::select! {
                () = self.common.reports.closed() => return None,
                step = self.inbox.recv() => self.flight.take(step?),
            }
        }
        Some(())
    }

    /// Whether the child is kept for nothing.
    fn is_idle(&self) -> bool {
        self.lane == Lane::Quarantine && self.flight.is_empty() && self.inbox.is_empty()
    }

    fn set_ready(&self, ready: bool) {
        if self.lane == Lane::Main {
            self.common.room.send_modify(|room| room.ready = ready);
        }
    }

    /// One life and its end. `None`: no more are wanted.
    async fn live_and_bury(&mut self, mut life: Life) -> Option<()> {
        self.useful = false;
        let end = self.live(&mut life).await;
        self.set_ready(false);
        let pid = life.process.pid;
        let pool = self.common.settings.pool.clone();
        match end {
            End::Closed => {
                life.end_gently().await;
                return None;
            }
            End::Culprits(why, LogFields { task_id, step, attempt, correlation_id }) => {
                self.flight.spare();
                life.end().await;
                tracing::warn!(pool, pid, task_id, step, attempt, correlation_id, "{why}; its process was killed");
            }
            End::Died(reason) => {
                let stderr = life.end().await;
                let death = self.flight.crash();
                let LogFields { task_id, step, attempt, correlation_id } = death.steps().collect();
                let in_flight = death.in_flight;
                tracing::warn!(
                    pool,
                    pid,
                    in_flight,
                    task_id,
                    step,
                    attempt,
                    correlation_id,
                    "the worker's process died: {reason}"
                );
                self.quarantine(death.suspects).await;
                if let Some(blamed) = death.blamed {
                    self.report(blamed, crashed(&reason, &stderr)).await?;
                }
            }
        }
        self.useless_lives = if self.useful { 0 } else { self.useless_lives + 1 };
        Some(())
    }

    async fn quarantine(&mut self, suspects: Vec<Waiting>) {
        if self.lane == Lane::Main {
            self.common.room.send_modify(|room| room.aside += suspects.len());
        }
        for suspect in suspects {
            // The way in is open as long as both children are supervised.
            let _ = self.common.suspects.send(suspect).await;
        }
    }

    /// Starts the command until it gets ready. `None`: nobody wants it any more.
    async fn begin_again(&mut self) -> Option<Life> {
        loop {
            self.pause().await?;
            match Life::begin(&self.common.command, &self.common.settings).await {
                Ok(life) => return Some(life),
                Err(error) => {
                    self.useless_lives += 1;
                    let again_in_ms = self.pause_length().as_millis() as u64;
                    tracing::error!(pool = self.common.settings.pool, again_in_ms, "{error}");
                }
            }
        }
    }

    fn pause_length(&self) -> Duration {
        let Settings { restart_pause, longest_restart_pause, .. } = self.common.settings;
        match self.useless_lives {
            0 => Duration::ZERO,
            lives => restart_pause.saturating_mul(1 << (lives - 1).min(16)).min(longest_restart_pause),
        }
    }

    /// `None`: it was closed meanwhile.
    async fn pause(&mut self) -> Option<()> {
        let over = Instant::now() + self.pause_length();
        loop {
            tokio::select! {
                biased;
                () = self.common.reports.closed() => return None,
                step = self.inbox.recv() => self.flight.take(step?),
                () = sleep_until(over) => return Some(()),
            }
        }
    }

    async fn live(&mut self, life: &mut Life) -> End {
        let mut steps = Vec::new();
        let places = self.common.settings.max_concurrent_handlers.max(1);
        let alarm = sleep_until(Instant::now());
        tokio::pin!(alarm);
        loop {
            if self.depart(life).await.is_none() {
                return End::Closed;
            }
            if self.is_idle() {
                return End::Closed;
            }
            let deadline = self.flight.next_deadline();
            // The alarm is moved forward only: one that comes too early costs a look, one a step would cost more.
            if let Some(deadline) = deadline.filter(|deadline| *deadline < alarm.deadline() || alarm.is_elapsed()) {
                alarm.as_mut().reset(deadline);
            }
            tokio::select! {
                () = self.common.reports.closed() => return End::Closed,
                read = life.lines.fill() => match read {
                    Ok(1..) => if let Err(end) = self.arrivals(life).await { return end },
                    _ => return End::Died(life.cause_of_death().await),
                },
                count = self.inbox.recv_many(&mut steps, places) => {
                    if count == 0 {
                        return End::Closed;
                    }
                    steps.drain(..).for_each(|step| self.flight.take(step));
                }
                written = life.outgoing.flush(), if !life.outgoing.is_empty() => if written.is_err() {
                    return self.last_arrivals(life, None).await;
                },
                status = life.process.wait() => {
                    let reason = status.map_or_else(|error| format!("it is lost: {error}"), life::describe);
                    return self.last_arrivals(life, Some(reason)).await;
                }
                () = &mut alarm, if deadline.is_some() => {
                    // Whoever answered in time is not late because we were.
                    life.lines.fill_now();
                    if let Err(end) = self.arrivals(life).await {
                        return end;
                    }
                    if let Err(end) = self.time_out().await {
                        return end;
                    }
                }
            }
        }
    }

    /// Hands the child whatever it may have. `None`: nobody listens any more.
    async fn depart(&mut self, life: &mut Life) -> Option<()> {
        let now = Instant::now();
        while let Some((id, passenger)) = self.flight.depart(now) {
            if let Some(refusal) = self.common.settings.gate.refusal(&passenger.step) {
                let passenger = self.flight.land(id).expect("it has just departed");
                self.report(passenger, refusal).await?;
                continue;
            }
            self.useful = true;
            protocol::write_step(id, &passenger.step, &mut life.outgoing.bytes);
            if passenger.step.report_start {
                let started = Report { step: passenger.step.clone(), outcome: Outcome::Started {}, execution_time_ms: 0 };
                self.common.reports.send(started).await.ok()?;
            }
        }
        Some(())
    }

    /// Looks at all lines that were read.
    async fn arrivals(&mut self, life: &mut Life) -> Result<(), End> {
        loop {
            let line = match life.lines.next() {
                Next::Partial => return Ok(()),
                Next::Line(line) => protocol::read(line),
                Next::TooLong(start) => {
                    let (id, shown) = (protocol::id_at_start(start), protocol::excerpt(start));
                    return Err(self.too_long(id, &shown).await);
                }
            };
            self.arrival(line).await?;
        }
    }

    async fn arrival(&mut self, line: Line) -> Result<(), End> {
        match line {
            Line::Heartbeat(id) => self.heartbeat(id).await,
            Line::Garbage(excerpt) => Err(End::Died(format!("it wrote a line that is not of the worker protocol: `{excerpt}`"))),
            Line::Outcome(id, outcome) => self.answer(id, *outcome).await,
            Line::BadOutcome(id, why) => {
                let failure =
                    Failure::permanent("invalid_outcome", format!("the worker answered with an outcome that is none: {why}"));
                self.answer(id, Outcome::Failure(failure)).await
            }
        }
    }

    async fn answer(&mut self, id: u64, outcome: Outcome) -> Result<(), End> {
        let Some(passenger) = self.flight.land(id) else {
            return Err(End::Died(format!("it answered step number {id}, which it does not have")));
        };
        self.report(passenger, outcome).await.ok_or(End::Closed)
    }

    async fn heartbeat(&mut self, id: u64) -> Result<(), End> {
        let now = Instant::now();
        let Some(passenger) = self.flight.flying(id) else {
            // One that crossed with its own step's answer means nothing.
            let known = self.flight.was_issued(id);
            return if known {
                Ok(())
            } else {
                Err(End::Died(format!("it sent a heartbeat of step number {id}, which it never had")))
            };
        };
        if !passenger.step.report_start || now < passenger.next_heartbeat {
            return Ok(());
        }
        passenger.next_heartbeat = now + Duration::from_secs(limits::HEARTBEAT_SECONDS);
        let execution_time_ms = (now - passenger.began).as_millis() as u64;
        let report = Report { step: passenger.step.clone(), outcome: Outcome::Heartbeat {}, execution_time_ms };
        self.common.reports.send(report).await.map_err(|_| End::Closed)
    }

    async fn too_long(&mut self, id: Option<u64>, shown: &str) -> End {
        let Some(passenger) = id.and_then(|id| self.flight.land(id)) else {
            return End::Died(format!("it wrote a line of more than {} bytes: `{shown}`", limits::WORKER_LINE_BYTES));
        };
        let (most, kept) = (limits::WORKER_LINE_BYTES, limits::RESULT_BYTES);
        let message = format!(
            "the outcome has more than {most} bytes; at most {kept} are kept. Store the data and return a reference to it"
        );
        let culprit = std::iter::once(&*passenger.step).collect();
        match self.report(passenger, Outcome::Failure(Failure::permanent("result_too_large", message))).await {
            // The rest of the line may have no end.
            Some(()) => End::Culprits("a step answered far more than can be kept", culprit),
            None => End::Closed,
        }
    }

    async fn time_out(&mut self) -> Result<(), End> {
        let late = self.flight.overdue(Instant::now());
        if late.is_empty() {
            return Ok(());
        }
        let culprits = late.iter().map(|passenger| &*passenger.step).collect();
        for passenger in late {
            let outcome = timed_out(&passenger.step);
            self.report(passenger, outcome).await.ok_or(End::Closed)?;
        }
        Err(End::Culprits("a step ran longer than its time", culprits))
    }

    /// The child is going; what it wrote before still counts.
    async fn last_arrivals(&mut self, life: &mut Life, reason: Option<String>) -> End {
        let reason = match reason {
            Some(reason) => reason,
            None => life.cause_of_death().await,
        };
        life.lines.fill_now();
        match self.arrivals(life).await {
            Err(end @ (End::Closed | End::Culprits(..))) => end,
            Ok(()) | Err(End::Died(_)) => End::Died(reason),
        }
    }

    /// Answers for a step that left the flight. `None`: nobody listens any more.
    async fn report(&mut self, passenger: Running, outcome: Outcome) -> Option<()> {
        let execution_time_ms = passenger.began.elapsed().as_millis() as u64;
        let step: Arc<RunStep> = passenger.step;
        if self.lane == Lane::Quarantine {
            // Before the report: whoever counts the steps must never think that there is more room than there is.
            self.common.room.send_modify(|room| room.aside -= 1);
        }
        self.common.reports.send(Report { step, outcome, execution_time_ms }).await.ok()
    }
}

/// The failure of a step that killed its process each time it ran alone in it.
fn crashed(reason: &str, stderr: &[String]) -> Outcome {
    let message =
        format!("the worker's process died {} times while it ran this step alone; the last time {reason}", limits::LOSSES);
    let context = (!stderr.is_empty()).then(|| serde_json::json!({ "stderr": stderr }));
    Outcome::Failure(Failure { context, ..Failure::retryable("worker_crashed", message) })
}
