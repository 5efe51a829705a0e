//! The rig that tests share: a fresh database with a clock that the test moves, an engine over it, a proxy that breaks
//! connections, `tasker-ctl dev` as a process, the conformance suite of queues, and waiting.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

mod chance;
pub mod conformance;
mod database;
pub mod dev;
mod engine;
mod program;
mod proxy;
mod wait;

pub use chance::{Chance, mix};
pub use database::{Database, VARIABLE, database};
pub use engine::{engine, engine_of, receive};
pub use program::{binary, http_client, is_alive, kill_now, root, skip};
pub use proxy::{Proxy, Stream, connect, host_of};
pub use wait::{PATIENCE, let_pass, poll, wait_until};
