//! Waits for a task to finish. This process wakes waiters immediately; waiters poll for tasks that another process finishes.

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

/// The interval at which a waiter reads the task's state.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The waiters by task: their number, and what they wait for.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<HashMap<TaskId, (usize, Arc<End>)>>);

#[derive(Default)]
struct End {
    came: AtomicBool,
    notify: Notify,
}

/// A registered waiter. Dropping it removes it from the map, also when a client disconnects and its future is dropped.
pub struct Waiter {
    waiters: Arc<Waiters>,
    task: TaskId,
    end: Arc<End>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiters = self.waiters.0.lock();
        // Waiters that entered after the task's end have another entry.
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
    /// Waits until this process finishes the task, or until `deadline`. Returns whether the task finished.
    async fn end(&self, deadline: Instant) -> bool {
        // Listens before it reads, so that it cannot miss an end in between.
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
    /// Returns when the task has finished, does not exist, or the time is over.
    pub async fn wait(&self, task: TaskId, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let waiter = self.waiters.enter(task);
        // Reads after it entered, so that it cannot miss an end in between.
        if self.is_running(task).await {
            self.wait_until(waiter, deadline).await;
        }
    }

    /// The same for a task that had not finished when its waiter entered. Reads nothing.
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

    /// Retries while the database does not answer.
    async fn is_running(&self, task: TaskId) -> bool {
        matches!(self.store.task_state(task).await, Ok(Some(TaskState::Running)) | Err(_))
    }
}
