//! The engine over a real PostgreSQL and its in-process queue: one subject a file.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

mod at_once;
mod attempts;
mod backoffs;
mod basics;
mod batches;
mod cancel;
mod change_of_queue;
mod checkpoints;
mod clock;
mod counts;
mod dead_letters;
mod decisions;
mod defects;
mod definition;
mod doctor;
mod explained;
mod failures;
mod foreign_locks;
mod identity;
mod join;
mod late;
mod limits;
mod lives;
mod locks;
mod lost_answers;
mod net;
mod operator;
mod pauses;
mod places;
mod recover_entries;
mod recovery;
mod redo;
mod remote_queue;
mod reopen;
mod reports;
mod resends;
mod retries;
mod rig;
mod settle;
mod small;
mod stale;
mod sweeps;
mod tolerated;
mod wide;
