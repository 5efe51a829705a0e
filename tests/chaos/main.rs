//! The engine under loss, duplication, reordering and crash: seeds over a real PostgreSQL, each of which must end as its model says.
//!
//! `scripts/chaos N [FIRST]` runs any number of seeds; `CHAOS_SEED=n` replays one.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod chance;
mod driver;
mod embedded;
mod faults;
mod ground;
mod history;
mod journal;
mod loops;
mod model;
mod operators;
mod planted;
mod process;
mod proxy;
mod queue;
mod races;
mod run;
mod sends;
mod workers;
