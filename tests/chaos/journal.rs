//! What happened in a seed, line by line, without what differs from run to run: ids, and what they spread.

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub struct Journal(Mutex<Vec<String>>);

impl Journal {
    pub fn note(&self, line: String) {
        self.0.lock().push(line);
    }

    pub fn lines(&self) -> usize {
        self.0.lock().len()
    }

    /// Which of two calls at once sends first the machine decides, and in which order one statement answers its plan and the ids: what
    /// they sent stands in an order of its own.
    pub fn sort_since(&self, line: usize) {
        self.0.lock()[line..].sort_unstable();
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}
