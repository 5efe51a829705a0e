//! The binaries as a user runs them: real processes, a private PostgreSQL, HTTP. They are built before (see scripts/test).

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod dev;
mod kill;
mod samples;
mod start;
