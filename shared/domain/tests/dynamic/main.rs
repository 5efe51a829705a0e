//! Steps that come while a task runs: which exist after which decisions, and what an outcome may ask for.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

mod graph;
mod large;
mod outcomes;
mod redo;
mod rules;
mod samples;
mod shapes;
