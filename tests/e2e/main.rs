//! The binaries as a user runs them: real processes, a private PostgreSQL, HTTP. They are built before (see scripts/test).

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod clock;
mod cluster;
mod database;
mod dev;
mod disk;
mod kill;
mod load;
mod moments;
mod samples;
mod slow;
mod start;
