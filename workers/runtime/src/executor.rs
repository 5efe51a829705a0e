//! What runs steps, seen from outside: steps go in, reports come out. Closing the way in ends it.

use std::sync::Arc;

use tasker_wire::{Outcome, RunStep};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    Gate, Settings,
    child::{self, ChildProcess, Command, StartError},
};

/// Runs steps in a supervised child process. Dropping it ends the child.
#[derive(Debug)]
pub struct Executor {
    pub(crate) steps: mpsc::Sender<Arc<RunStep>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) capacity: watch::Receiver<Capacity>,
    handlers: Vec<String>,
    supervisor: JoinHandle<()>,
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

/// How much an executor can hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// False while there is no process that could run a new step.
    pub ready: bool,
    /// Steps in quarantine: they take no place of new ones.
    pub aside: usize,
}

impl Capacity {
    /// How many steps it may hold, of which `places` run. Steps in quarantine count up to as many again, so a worker whose process dies
    /// over and over does not take ever more.
    pub fn steps(self, places: usize) -> usize {
        if self.ready { places + self.aside.min(places) } else { 0 }
    }
}

/// The other ends of an executor's channels.
pub(crate) struct Ends {
    pub steps: mpsc::Receiver<Arc<RunStep>>,
    pub reports: mpsc::Sender<Report>,
    pub capacity: watch::Sender<Capacity>,
}

impl Executor {
    /// Starts a child process and waits until it says which handlers it has.
    ///
    /// From then on it is started again whenever it dies. The steps that it then had run again one at a time in a second child,
    /// beside new ones in the first. An error says in one sentence why the command is of no use.
    pub async fn child(command: Command, settings: &Settings) -> Result<Self, StartError> {
        Self::start(command, settings, None).await
    }

    /// The same, and asks `gate` before each step that it starts.
    pub async fn gated(command: Command, settings: &Settings, gate: Arc<dyn Gate>) -> Result<Self, StartError> {
        Self::start(command, settings, Some(gate)).await
    }

    async fn start(command: Command, settings: &Settings, gate: Option<Arc<dyn Gate>>) -> Result<Self, StartError> {
        let child = ChildProcess::start(&command, settings).await?;
        let handlers = child.handlers.clone();
        let places = settings.max_concurrent_handlers.max(1);
        // `run` sends no more steps than there are places beside those in quarantine, so a send of a step never waits.
        let (steps, steps_end) = mpsc::channel(places);
        let (reports_end, reports) = mpsc::channel(2 * places);
        let (capacity_end, capacity) = watch::channel(Capacity { ready: true, aside: 0 });
        let ends = Ends { steps: steps_end, reports: reports_end, capacity: capacity_end };
        let supervisor = tokio::spawn(child::supervise(command, settings.clone(), gate, child, ends));
        Ok(Self { steps, reports, capacity, handlers, supervisor })
    }

    /// The handlers that the child registered, by name.
    pub fn handlers(&self) -> &[String] {
        &self.handlers
    }

    /// Ends it: no step is taken any more, and the child process is gone when this returns.
    pub async fn close(self) {
        let Self { steps, reports, supervisor, .. } = self;
        drop((steps, reports));
        // It can only have panicked, which was printed where it happened.
        let _ = supervisor.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_makes_room_for_as_many_new_steps_as_run_at_once_and_no_more() {
        let capacity = |aside| Capacity { ready: true, aside }.steps(10);
        assert_eq!([0, 3, 10, 25].map(capacity), [10, 13, 20, 20]);
        assert_eq!(Capacity { ready: false, aside: 3 }.steps(10), 0);
    }
}
