//! The steps that were thrown back because their process ended beside them. From now on each runs alone in a process, where no other
//! step can hurt it.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tasker_wire::{Lease, RunStep};
use tokio::sync::Notify;

use super::in_flight::Waiting;

#[derive(Default)]
pub(crate) struct Aside {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// The processes that are being started for them.
    starting: usize,
}

/// A process is being started for a step.
pub(crate) struct Starting<'a>(&'a Aside);

impl Aside {
    pub fn put(&self, steps: Vec<Waiting>) {
        self.state.lock().waiting.extend(steps);
        self.arrived.notify_waiters();
    }

    pub fn take(&self) -> Option<Waiting> {
        self.state.lock().waiting.pop_front()
    }

    /// Waits until a step waits for which no process is being started.
    pub async fn needs_process(&self) -> Starting<'_> {
        loop {
            // Listens before it looks, so that it cannot miss an arrival in between.
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some(starting) = self.begin() {
                return starting;
            }
            arrived.await;
        }
    }

    fn begin(&self) -> Option<Starting<'_>> {
        let mut state = self.state.lock();
        (state.waiting.len() > state.starting).then(|| {
            state.starting += 1;
            Starting(self)
        })
    }

    /// The waiting steps whose workers report that they are not lost.
    pub fn reported(&self) -> Vec<Arc<RunStep>> {
        let state = self.state.lock();
        state.waiting.iter().filter(|waiting| waiting.step.report_start).map(|waiting| waiting.step.clone()).collect()
    }

    /// Removes steps that are no longer wanted.
    pub fn remove(&self, unwanted: &HashSet<Lease>) -> Vec<Arc<RunStep>> {
        let mut state = self.state.lock();
        let (removed, kept) =
            std::mem::take(&mut state.waiting).into_iter().partition(|waiting| unwanted.contains(&waiting.step.lease()));
        state.waiting = kept;
        VecDeque::into_iter(removed).map(|waiting| waiting.step).collect()
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().starting -= 1;
        // A step may still wait, for another process.
        self.0.arrived.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tasker_wire::TaskId;

    use super::*;

    fn waiting(no: i32) -> Waiting {
        Arc::new(crate::testing::step(TaskId::from_fresh(uuid::Uuid::nil()).step(no), "x")).into()
    }

    #[test]
    fn each_step_needs_one_process() {
        let aside = Aside::default();
        assert!(aside.needs_process().now_or_never().is_none());
        aside.put(vec![waiting(0), waiting(1)]);
        let first = aside.needs_process().now_or_never().unwrap();
        let second = aside.needs_process().now_or_never().unwrap();
        assert!(aside.needs_process().now_or_never().is_none(), "both are being started");
        drop(first);
        let third = aside.needs_process().now_or_never();
        assert!(third.is_some(), "a start that failed is repeated");
        assert_eq!(aside.take().unwrap().step.step_id.no, 0);
        drop((second, third));
        assert_eq!(aside.remove(&HashSet::from([waiting(1).step.lease()])).len(), 1);
        assert!(aside.needs_process().now_or_never().is_none());
    }
}
