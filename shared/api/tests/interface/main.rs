//! The interface over a real engine and a real database.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod actions;
mod bad_input;
mod busy;
mod dlq;
mod explain;
mod health;
mod pauses;
mod pools;
mod rig;
mod routes;
mod steps;
mod tasks;
mod templates;
mod wire;
