//! Waiting for a task to finish: woken at once by this process, and looking again for what another process finished.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tasker_queue::Queue;
use tasker_wire::{TaskId, TaskState};
use tokio::{sync::Notify, time::Instant};

use crate::Engine;

/// How often a waiting request looks for what another process may have finished.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who waits, by task: how many, and what they wait for.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, (usize, Arc<End>)>>);

/// The end of a task.
#[derive(Default)]
struct End {
    came: AtomicBool,
    notify: Notify,
}

/// One who waits; gone from the map when dropped, also when a client goes away and the future is dropped with it.
pub struct Waiter {
    waiters: Arc<Waiters>,
    task: TaskId,
    end: Arc<End>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiters.0.lock();
        // Those who came after the task's end wait for another one.
        if let Entry::Occupied(mut entry) = waiters.entry(self.task)
            && Arc::ptr_eq(&entry.get().1, &self.end)
        {
            entry.get_mut().0 -= 1;
            if entry.get().0 == 0 {
                entry.remove();
            }
        }
    }
}

impl Waiter {
    /// Waits until this process ends the task, at most so long. Whether it did.
    async fn end(&self, deadline: Instant) -> bool {
        // Listening before looking: what finishes in between is heard.
        let heard = self.end.notify.notified();
        tokio::pin!(heard);
        heard.as_mut().enable();
        self.end.came.load(Ordering::Acquire) || tokio::time::timeout_at(deadline, heard).await.is_ok()
    }
}

impl Waiters {
    pub fn enter(self: &Arc<Self>, task: TaskId) -> Waiter {
        let mut waiters = self.0.lock();
        let (count, end) = waiters.entry(task).or_default();
        *count += 1;
        Waiter { waiters: self.clone(), task, end: end.clone() }
    }

    pub fn wake(&self, task: TaskId) {
        if let Some((_, end)) = self.0.lock().remove(&task) {
            end.came.store(true, Ordering::Release);
            end.notify.notify_waiters();
        }
    }
}

impl<Q: Queue> Engine<Q> {
    /// Returns when the task has finished, when there is no such task, or when the time is up, whichever is first.
    pub async fn wait(&self, task: TaskId, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let waiter = self.waiters.enter(task);
        // Only after entering: what finishes in between is heard.
        if self.is_running(task).await {
            self.wait_until(waiter, deadline).await;
        }
    }

    /// The same for a task that was running, or not there yet, when its waiter entered: nothing is read.
    pub async fn wait_for(&self, waiter: Waiter, timeout: Duration) {
        self.wait_until(waiter, Instant::now() + timeout).await;
    }

    async fn wait_until(&self, waiter: Waiter, deadline: Instant) {
        while !waiter.end(deadline.min(Instant::now() + LOOK_AGAIN)).await {
            if Instant::now() >= deadline || !self.is_running(waiter.task).await {
                return;
            }
        }
    }

    /// A database that does not answer is asked again.
    async fn is_running(&self, task: TaskId) -> bool {
        matches!(self.store.task_state(task).await, Ok(Some(TaskState::Running)) | Err(_))
    }
}
