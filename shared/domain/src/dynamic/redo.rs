//! What a step's repetition sets back and deletes.

use std::collections::BTreeSet;

use super::Decided;
use crate::template::Workflow;
use tasker_wire::{StepNo, ids::step_no};

/// What changes in the rows of a task when a step and everything after it is set back. All lists are ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redo {
    /// The step, and the steps after it that stay.
    pub reset: Vec<StepNo>,
    /// Those that only exist because a decider among them was done.
    pub deleted: Vec<StepNo>,
    /// Those that stay with other parents, and these.
    pub parents: Vec<(StepNo, Vec<StepNo>)>,
}

impl Workflow {
    /// What happens if the step `from`, which exists, and everything after it is set back. A step is after it if a path of rows leads to
    /// it.
    pub fn redo(&self, decided: &Decided, from: StepNo) -> Redo {
        let before = self.graph(decided);
        let mut after_it = BTreeSet::from([from]);
        // A parent's number is lower.
        for row in &before {
            if row.no > from && row.parents.iter().any(|parent| after_it.contains(parent)) {
                after_it.insert(row.no);
            }
        }
        let stays = |decider: usize| !after_it.contains(&step_no(decider));
        let left: Decided = decided.iter().filter(|(decider, _)| stays(**decider)).map(|(d, c)| (*d, c.clone())).collect();
        let after = self.graph(&left);
        let mut redo = Redo::default();
        let mut staying = after.into_iter().peekable();
        for row in before {
            match staying.next_if(|stays| stays.no == row.no) {
                Some(stays) => {
                    if after_it.contains(&row.no) {
                        redo.reset.push(row.no);
                    }
                    if stays.parents != row.parents {
                        redo.parents.push((row.no, stays.parents));
                    }
                }
                None => redo.deleted.push(row.no),
            }
        }
        redo
    }
}
