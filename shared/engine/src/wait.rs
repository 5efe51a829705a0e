//! Waiting for a task to finish: woken at once by this process, and looking again for what another process finished.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tasker_domain::{Queue, TaskId, TaskState};
use tokio::{sync::Notify, time::Instant};

use crate::Engine;

/// How often a waiting request looks for what another process may have finished.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who waits, by task: how many, and what wakes them.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, (usize, Arc<Notify>)>>);

/// One who waits; gone from the map when dropped, also when a client goes away and the future is dropped with it.
struct Waiter<'a> {
    waiters: &'a Waiters,
    task: TaskId,
    notify: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.waiters.lock().entry(self.task) {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }
}

impl Waiters {
    fn enter(&self, task: TaskId) -> Waiter<'_> {
        let mut waiters = self.lock();
        let (count, notify) = waiters.entry(task).or_default();
        *count += 1;
        Waiter { waiters: self, task, notify: notify.clone() }
    }

    pub fn wake(&self, task: TaskId) {
        if let Some((_, notify)) = self.lock().get(&task) {
            notify.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, (usize, Arc<Notify>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Queue> Engine<Q> {
    /// Returns when the task has finished, when there is no such task, or when the time is up, whichever is first.
    pub async fn wait(&self, task: TaskId, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let waiter = self.waiters.enter(task);
        loop {
            // Listening before looking: what finishes in between is heard.
            let heard = waiter.notify.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            match self.store.task_state(task).await {
                Ok(Some(TaskState::Running)) | Err(_) => {}
                Ok(_) => return,
            }
            if Instant::now() >= deadline {
                return;
            }
            let _ = tokio::time::timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), heard).await;
        }
    }
}
