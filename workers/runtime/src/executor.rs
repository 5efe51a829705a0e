//! What runs steps, seen from outside: steps go in, reports come out. Closing the way in ends it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tasker_wire::{Outcome, RunStep, limits};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    Settings,
    child::{self, Command, StartError},
    in_process,
};

/// Runs steps, in process or in a child process. Dropping it ends the child.
#[derive(Debug)]
pub struct Executor {
    pub(crate) steps: mpsc::Sender<Arc<RunStep>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) room: watch::Receiver<Capacity>,
    handlers: Vec<String>,
    task: JoinHandle<()>,
}

/// One thing that an executor says of one step.
#[derive(Debug)]
pub(crate) struct Report {
    pub step: Arc<RunStep>,
    pub outcome: Outcome,
    pub execution_time_ms: u64,
}

impl Report {
    /// Whether the step is over with this; a heartbeat is not an answer.
    pub fn is_answer(&self) -> bool {
        !matches!(self.outcome, Outcome::Started {} | Outcome::Heartbeat {})
    }
}

/// What an executor says of the steps that it could hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// False while there is no process that could run a new step.
    pub ready: bool,
    /// Steps that it has put aside: they take no place of new ones.
    pub aside: usize,
}

impl Capacity {
    /// How many steps it may hold, of which `places` run. What was put aside counts up to as many again: a worker whose
    /// process dies over and over does not take ever more.
    pub fn steps(self, places: usize) -> usize {
        if self.ready { places + self.aside.min(places) } else { 0 }
    }
}

/// The other ends of an executor's channels.
pub(crate) struct Ends {
    pub steps: mpsc::Receiver<Arc<RunStep>>,
    pub reports: mpsc::Sender<Report>,
    pub room: watch::Sender<Capacity>,
}

impl Executor {
    /// Starts a child process and waits until it says which handlers it has.
    ///
    /// From then on it is started again whenever it dies. The steps that it then had run again one at a time in a second child,
    /// beside new ones in the first. An error tells in one sentence why the command is of no use.
    pub async fn child(command: Command, settings: &Settings) -> Result<Self, StartError> {
        let life = child::Life::begin(&command, settings).await?;
        let handlers = life.handlers.clone();
        let settings = settings.clone();
        Ok(Self::around(settings.max_concurrent_handlers, handlers, |ends| child::supervise(command, settings, life, ends)))
    }

    /// Runs steps by an async function in this process.
    ///
    /// A panic is a failure of its step. A step over its time is given up at its next `await`; a function that never awaits
    /// keeps its thread, although its step is reported as timed out.
    pub fn in_process<F, Fut>(settings: &Settings, call: F) -> Self
    where
        F: Fn(Arc<RunStep>, Beat) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        Self::around(settings.max_concurrent_handlers, Vec::new(), |ends| in_process::serve(call, settings.gate.clone(), ends))
    }

    fn around<Fut>(places: usize, handlers: Vec<String>, serve: impl FnOnce(Ends) -> Fut) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        // `run` hands out no more steps than there are places beside those put aside, so a send of a step never waits.
        let (steps, steps_end) = mpsc::channel(places.max(1));
        let (reports_end, reports) = mpsc::channel(2 * places.max(1));
        let (room_end, room) = watch::channel(Capacity { ready: true, aside: 0 });
        let task = tokio::spawn(serve(Ends { steps: steps_end, reports: reports_end, room: room_end }));
        Self { steps, reports, room, handlers, task }
    }

    /// The handlers that the child registered, by name; empty for an executor in process.
    pub fn handlers(&self) -> &[String] {
        &self.handlers
    }

    /// Ends it: no step is taken any more, and a child process is gone when this returns.
    pub async fn close(self) {
        let Self { steps, reports, task, .. } = self;
        drop((steps, reports));
        // It can only have panicked, which was printed where it happened.
        let _ = task.await;
    }
}

/// Says that a handler in process still works.
#[derive(Clone)]
pub struct Beat(Arc<BeatState>);

struct BeatState {
    step: Arc<RunStep>,
    reports: mpsc::Sender<Report>,
    began: Instant,
    /// Milliseconds after `began` of the next heartbeat that is passed on.
    next_ms: AtomicU64,
}

impl Beat {
    pub(crate) fn new(step: Arc<RunStep>, reports: mpsc::Sender<Report>) -> Self {
        Self(Arc::new(BeatState { step, reports, began: Instant::now(), next_ms: AtomicU64::new(0) }))
    }

    /// Passes a heartbeat on, if the step asks for them and the last one is old enough. Never waits.
    pub fn beat(&self) {
        let BeatState { step, reports, began, next_ms } = &*self.0;
        let now_ms = began.elapsed().as_millis() as u64;
        if !step.report_start || now_ms < next_ms.load(Ordering::Relaxed) {
            return;
        }
        next_ms.store(now_ms + Duration::from_secs(limits::HEARTBEAT_SECONDS).as_millis() as u64, Ordering::Relaxed);
        // A full channel means that reports flow anyway; a heartbeat may be lost.
        let _ = reports.try_send(Report { step: step.clone(), outcome: Outcome::Heartbeat {}, execution_time_ms: now_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_makes_room_for_as_many_new_steps_as_run_at_once_and_no_more() {
        let room = |aside| Capacity { ready: true, aside }.steps(10);
        assert_eq!([0, 3, 10, 25].map(room), [10, 13, 20, 20]);
        assert_eq!(Capacity { ready: false, aside: 3 }.steps(10), 0);
    }
}
