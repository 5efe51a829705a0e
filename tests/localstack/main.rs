//! The functions and workers as they are deployed, on LocalStack: real queues with redrive, a real gateway, real processes that
//! are killed, PostgreSQL by TLS. Each test has a deployment and a database of its own. Without LocalStack each test is skipped
//! and reported.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod conformance;
mod dead_letters;
mod deployment;
mod orders;
mod outages;
mod retries;
