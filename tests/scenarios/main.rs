//! The engine over a real PostgreSQL and its in-process queue: one story a file.

mod attempts;
mod backoffs;
mod basics;
mod cancel;
mod failures;
mod identity;
mod late;
mod outside;
mod world;
