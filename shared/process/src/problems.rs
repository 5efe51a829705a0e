//! What is wrong with this process at the moment, in sentences for `/health/ready`.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// The current problems of a process, by their source. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Problems(Arc<Mutex<BTreeMap<&'static str, Vec<String>>>>);

impl Problems {
    /// Replaces the problems of one source. None: it has none any more. The sentences are public, so they name no host and no user.
    pub fn set(&self, source: &'static str, sentences: impl IntoIterator<Item = String>) {
        self.0.lock().insert(source, sentences.into_iter().collect());
    }

    /// The problems of all sources, ordered by source.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_replaces_its_own_problems_and_leaves_the_others() {
        let problems = Problems::default();
        let sentences = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        problems.set("locks", sentences(&["one", "two"]));
        problems.clone().set("clock", sentences(&["three"]));
        assert_eq!(problems.list(), ["three", "one", "two"]);
        problems.set("locks", None);
        assert_eq!(problems.list(), ["three"]);
    }
}
