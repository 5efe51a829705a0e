//! What happened in a seed, line by line, without what differs from run to run: ids, and what they spread.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Journal(Mutex<Vec<String>>);

impl Journal {
    pub fn note(&self, line: String) {
        self.lock().push(line);
    }

    pub fn lines(&self) -> usize {
        self.lock().len()
    }

    /// Which of two calls at once sends first the machine decides, and in which order one statement answers its plan and the ids: what
    /// they sent stands in an order of its own.
    pub fn sort_since(&self, line: usize) {
        self.lock()[line..].sort_unstable();
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
