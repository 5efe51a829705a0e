//! The events of a seed, line by line, without what differs from run to run: ids, and the jitter that depends on them.

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

    /// Sorts the lines from `line` on. The order of two calls at once depends on the machine, and the order of the rows of one
    /// statement on its query plan and the ids.
    pub fn sort_since(&self, line: usize) {
        self.0.lock()[line..].sort_unstable();
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}
