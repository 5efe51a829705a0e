//! Rules that hold for every input, also hostile ones: one module per parser, each with a `run` that panics if a rule is broken.
//!
//! Both libFuzzer (`fuzz_targets/`) and an ordinary test (`corpus.rs`) call these.

pub mod child_line;
pub mod json;
pub mod places;
pub mod step_action;
pub mod task_request;
pub mod template;

/// The runtime's own files: the crate keeps its protocol to itself.
#[path = "../../../workers/runtime/src/child/outline.rs"]
#[allow(dead_code, reason = "the runtime reads streams by it, and only whole lines are read here")]
mod outline;
#[path = "../../../workers/runtime/src/child/protocol.rs"]
#[allow(dead_code, reason = "as above")]
mod protocol;
