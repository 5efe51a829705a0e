//! The outside of an executor: steps go in, reports come out.

use std::sync::Arc;

use tasker_wire::{Outcome, RunStep};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    Gate, WorkerSettings,
    child::{self, ChildProcess, Command, Common, StartError},
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

#[derive(Debug)]
pub(crate) struct Report {
    pub step: Arc<RunStep>,
    pub outcome: Outcome,
    pub execution_time_ms: u64,
}

/// How many steps an executor can hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capacity {
    /// Whether there is a process for new steps.
    pub ready: bool,
    /// Steps in quarantine, which do not count against the places of new steps.
    pub aside: usize,
}

impl Capacity {
    /// How many steps it may hold: `places`, and at most as many again for those in quarantine. The bound holds even if the process
    /// keeps dying.
    pub fn steps(self, places: usize) -> usize {
        if self.ready { places + self.aside.min(places) } else { 0 }
    }
}

impl Executor {
    /// Starts a child process and waits for its list of handlers.
    ///
    /// Later the child is restarted whenever it dies. The steps that it had run again one at a time in a second child, while new ones
    /// run in the first. The error says in one sentence why the command cannot be used.
    pub async fn child(command: Command, settings: &WorkerSettings) -> Result<Self, StartError> {
        Self::start(command, settings, None).await
    }

    /// The same, with a gate that decides about each step before it starts.
    pub async fn gated(command: Command, settings: &WorkerSettings, gate: Arc<dyn Gate>) -> Result<Self, StartError> {
        Self::start(command, settings, Some(gate)).await
    }

    async fn start(command: Command, settings: &WorkerSettings, gate: Option<Arc<dyn Gate>>) -> Result<Self, StartError> {
        let child = ChildProcess::start(&command, settings).await?;
        let handlers = child.handlers.clone();
        let places = settings.max_concurrent_handlers.max(1);
        // `run` sends no more steps than there are places, beside those in quarantine, so sending a step never waits.
        let (steps, steps_end) = mpsc::channel(places);
        let (reports_end, reports) = mpsc::channel(2 * places);
        let (capacity_end, capacity) = watch::channel(Capacity { ready: true, aside: 0 });
        // In total it sends no more than twice as many (see `Capacity`), so sending a suspect never waits either.
        let (suspects, suspects_end) = mpsc::channel(2 * places);
        let common = Common { command, settings: settings.clone(), gate, reports: reports_end, capacity: capacity_end, suspects };
        let supervisor = tokio::spawn(child::supervise(common, child, steps_end, suspects_end));
        Ok(Self { steps, reports, capacity, handlers, supervisor })
    }

    pub fn handlers(&self) -> &[String] {
        &self.handlers
    }

    /// Takes no more steps, and ends the child process before it returns.
    pub async fn close(self) {
        let Self { steps, reports, supervisor, .. } = self;
        drop((steps, reports));
        // It can only have panicked, and the panic was printed.
        let _ = supervisor.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_in_quarantine_leave_places_for_as_many_new_steps() {
        let capacity = |aside| Capacity { ready: true, aside }.steps(10);
        assert_eq!([0, 3, 10, 25].map(capacity), [10, 13, 20, 20]);
        assert_eq!(Capacity { ready: false, aside: 3 }.steps(10), 0);
    }
}
