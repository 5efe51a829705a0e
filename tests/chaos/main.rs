//! The engine under loss, duplication, reordering and crashes, over a real PostgreSQL. The end of each seed must match its model.
//!
//! `scripts/chaos N [FIRST]` runs any number of seeds; `CHAOS_SEED=n` replays one.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod driver;
mod embedded;
mod faults;
mod hash;
mod history;
mod journal;
mod loops;
mod model;
mod operators;
mod planted;
mod process;
mod queue;
mod races;
mod rig;
mod run;
mod sends;
mod statement_proxy;
mod workers;
