//! The binaries as a user runs them: real processes, a private PostgreSQL, HTTP. `scripts/test` builds them first.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod batch_kills;
mod blocked_thread;
mod cancelled_work;
mod clock;
mod cluster;
mod database_outages;
mod explain;
mod foreign_locks;
mod full_disk;
mod kill;
mod load;
mod ownership;
mod pooler;
mod random_kills;
mod rights;
mod samples;
mod slow_worker;
mod start;
mod wake_ups;
