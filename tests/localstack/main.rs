//! The functions and workers as they are deployed, on LocalStack: real queues with redrive, a real gateway, real processes that are killed,
//! PostgreSQL by TLS. Each test has a deployment and a database of its own. Skipped loudly where LocalStack cannot run.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod cell;
mod letters;
mod orders;
mod outages;
mod proxy;
mod queue;
mod time;
