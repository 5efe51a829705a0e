//! The engine over a real PostgreSQL and its in-process queue: one story a file.

mod basics;
mod world;
