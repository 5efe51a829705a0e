//! Waiting for a task to finish: woken at once by this process, and looking again for what another process finished.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tasker_domain::{Queue, TaskId, TaskState};
use tokio::{sync::Notify, time::Instant};

use crate::Engine;

/// How often a waiting request looks for what another process may have finished.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, Arc<Notify>>>);

/// One who waits; gone from the map when dropped, also when a client goes away and the future is dropped with it.
struct Waiter<'a> {
    waiters: &'a Waiters,
    task: TaskId,
    notify: Arc<Notify>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock();
        // The map's and this one: nobody else waits for the task.
        if Arc::strong_count(&self.notify) <= 2 {
            waiters.remove(&self.task);
        }
    }
}

impl Waiters {
    fn enter(&self, task: TaskId) -> Waiter<'_> {
        let notify = self.lock().entry(task).or_default().clone();
        Waiter { waiters: self, task, notify }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wake(&self, task: TaskId) {
        if let Some(notify) = self.lock().get(&task) {
            notify.notify_waiters();
        }
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
