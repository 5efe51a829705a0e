//! The binaries as a user runs them: real processes, a private PostgreSQL, HTTP. They are built before (see scripts/test).

mod dev;
mod kill;
mod samples;
mod start;
