//! Waiting for a task to finish: woken at once by this process, and looking again for what another process finished.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tasker_domain::{Queue, TaskId, TaskState};
use tokio::{sync::Notify, time::Instant};

use crate::Engine;

/// How often a waiting request looks for what another process may have finished.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, Arc<Notify>>>);

impl Waiters {
    fn enter(&self, task: TaskId) -> Arc<Notify> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(task).or_default().clone()
    }

    fn leave(&self, task: TaskId, notify: Arc<Notify>) {
        let mut waiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's, this one: nobody else waits.
        if Arc::strong_count(&notify) <= 2 {
            waiters.remove(&task);
        }
    }

    pub fn wake(&self, task: TaskId) {
        if let Some(notify) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&task) {
            notify.notify_waiters();
        }
    }
}

impl<Q: Queue> Engine<Q> {
    /// Returns when the task has finished, when there is no such task, or when the time is up, whichever is first.
    pub async fn wait(&self, task: TaskId, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let notify = self.waiters.enter(task);
        loop {
            // Listening before looking: what finishes in between is heard.
            let heard = notify.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            match self.store.task_state(task).await {
                Ok(Some(TaskState::Running)) | Err(_) => {}
                Ok(_) => break,
            }
            if Instant::now() >= deadline {
                break;
            }
            let _ = tokio::time::timeout_at(deadline.min(Instant::now() + LOOK_AGAIN), heard).await;
        }
        self.waiters.leave(task, notify);
    }
}
