//! Rules that hold for every input, also hostile ones: one module per parser, each with a `run` that panics if a rule is broken.
//!
//! Both libFuzzer (`fuzz_targets/`) and an ordinary test (`corpus.rs`) call these.

pub mod child_line;
pub mod json;
pub mod places;
pub mod step_action;
pub mod task_request;
pub mod template;

/// The runtime's own file: the crate keeps its protocol to itself.
#[path = "../../../workers/runtime/src/child/protocol.rs"]
mod protocol;
