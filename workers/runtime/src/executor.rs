//! The outside of an executor: steps go in, reports come out.

use std::{collections::HashSet, sync::Arc};

use tasker_wire::{Lease, Outcome, RunStep};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    Gate, WorkerSettings,
    child::{self, Aside, ChildProcess, Command, Common, StartError},
};

/// Runs steps in a supervised child process. Dropping it ends the child.
#[derive(Debug)]
pub struct Executor {
    pub(crate) steps: mpsc::Sender<Arc<RunStep>>,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) capacity: watch::Receiver<Capacity>,
    unwanted: watch::Sender<HashSet<Lease>>,
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
    /// Steps that were set aside, which do not count against the places of new steps.
    pub aside: usize,
}

impl Capacity {
    /// How many steps it may hold: `places`, and at most as many again for those set aside. The bound holds even if the process
    /// keeps dying.
    pub fn steps(self, places: usize) -> usize {
        if self.ready { places + self.aside.min(places) } else { 0 }
    }
}

impl Executor {
    /// Starts a child process and waits for its list of handlers.
    ///
    /// Later the child is restarted whenever it ends. The steps that it had run again, each alone in a child, while new ones run together
    /// in the first. The error says in one sentence why the command cannot be used.
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
        // `run` sends no more steps than there are places, beside those set aside, so sending a step never waits.
        let (steps, steps_end) = mpsc::channel(places);
        let (reports_end, reports) = mpsc::channel(2 * places);
        let (capacity_end, capacity) = watch::channel(Capacity { ready: true, aside: 0 });
        let (unwanted, unwanted_end) = watch::channel(HashSet::new());
        let common = Common {
            command,
            settings: settings.clone(),
            gate,
            reports: reports_end,
            capacity: capacity_end,
            unwanted: unwanted_end,
            aside: Aside::default(),
        };
        let supervisor = tokio::spawn(child::supervise(common, child, steps_end));
        Ok(Self { steps, reports, capacity, unwanted, handlers, supervisor })
    }

    /// The outcome of a step is no longer needed. It is told to stop, and if it does not, its process is ended. It is answered all the
    /// same, and then [`Self::is_answered`] must be called.
    pub(crate) fn stop(&self, lease: Lease) {
        self.unwanted.send_modify(|unwanted| {
            unwanted.insert(lease);
        });
    }

    pub(crate) fn is_answered(&self, lease: Lease) {
        if !self.unwanted.borrow().is_empty() {
            self.unwanted.send_if_modified(|unwanted| {
                unwanted.remove(&lease);
                // Nothing is to be stopped.
                false
            });
        }
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
    use std::time::Duration;

    use tasker_queue::{Bodies, InProcess, Outgoing, Queue, Source};
    use tasker_wire::TaskId;
    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{run, testing::step};

    /// An executor that loses as many steps as it is told, and answers each of the others after `time`.
    fn losing(mut losses: usize, time: Duration) -> Executor {
        let (steps, mut steps_end) = mpsc::channel::<Arc<RunStep>>(4);
        let (reports_end, reports) = mpsc::channel(4);
        let (capacity_end, capacity) = watch::channel(Capacity { ready: true, aside: 0 });
        let supervisor = tokio::spawn(async move {
            while let Some(step) = steps_end.recv().await {
                if losses > 0 {
                    losses -= 1;
                    continue;
                }
                sleep(time).await;
                let report = Report { step, outcome: Outcome::Released {}, execution_time_ms: 1 };
                reports_end.send(report).await.expect("the worker runs");
            }
            drop(capacity_end);
        });
        let (unwanted, _) = watch::channel(HashSet::new());
        Executor { steps, reports, capacity, unwanted, handlers: vec![], supervisor }
    }

    /// The database, which has one step.
    struct One;

    fn one() -> RunStep {
        step(TaskId::from_fresh(uuid::Uuid::nil()).step(1), "one")
    }

    impl Bodies for One {
        async fn load_bodies(self: &Arc<Self>, _: &[Lease]) -> (Vec<RunStep>, Vec<Lease>) {
            (vec![one()], vec![])
        }
    }

    /// Runs the step. Answers the deliveries that the worker lost, and how long it took.
    async fn deliveries_lost(executor: Executor) -> (u64, Duration) {
        let queue = InProcess::default();
        queue.send(vec![Outgoing::RunStep { pool: "p".into(), step: Box::new(one()) }]).await;
        let (source, shutdown, began) = (Arc::new(queue.steps("p", Arc::new(One))), CancellationToken::new(), Instant::now());
        let settings = WorkerSettings::new("p");
        let worker = tokio::spawn(run(source, Arc::new(queue.clone()), executor, settings, shutdown.clone()));
        let mut answers = queue.completions().receive(1).await;
        assert_eq!(answers.remove(0).message.expect("it is readable").lease(), one().lease());
        shutdown.cancel();
        assert_eq!(worker.await.expect("it ends").answered, 1);
        (queue.lost(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_the_executor_lost_is_delivered_again_and_counted() {
        let (lost, after) = deliveries_lost(losing(2, Duration::ZERO)).await;
        assert_eq!(lost, 2);
        assert!(after > Duration::from_secs(119) && after < Duration::from_secs(121), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_takes_long_is_not_lost() {
        let hours = Duration::from_secs(20_000);
        assert_eq!(deliveries_lost(losing(0, hours)).await, (0, hours));
    }

    #[test]
    fn steps_set_aside_leave_places_for_as_many_new_steps() {
        let capacity = |aside| Capacity { ready: true, aside }.steps(10);
        assert_eq!([0, 3, 10, 25].map(capacity), [10, 13, 20, 20]);
        assert_eq!(Capacity { ready: false, aside: 3 }.steps(10), 0);
    }
}
