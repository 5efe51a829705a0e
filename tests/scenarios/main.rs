//! The engine over a real PostgreSQL and its in-process queue: one story a file.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod attempts;
mod backoffs;
mod basics;
mod cancel;
mod counts;
mod dead_letters;
mod failures;
mod identity;
mod join;
mod late;
mod limits;
mod operator;
mod outside;
mod pauses;
mod proxy;
mod recovery;
mod reports;
mod review;
mod tolerated;
mod traps;
mod wide;
mod world;
