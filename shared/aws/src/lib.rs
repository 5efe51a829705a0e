//! Where a process meets AWS: the queues, and what a function is given of one. Nothing here knows
//! what a workflow is beyond the messages that it carries, or sees the database.

mod batch;
mod bounds;
mod clients;
mod dead_letter;
mod depot;
mod errors;
mod letter;
mod parse;
mod polling;
mod queues;
mod sqs;
mod trace;

pub use batch::{Batch, Received};
pub use clients::{Clients, https};
pub use dead_letter::{REASON, SOURCE_MESSAGE_ID, SqsSource};
pub use depot::{CallError, Move, QueueAdmin, QueueFacts};
pub use errors::said;
pub use letter::DeadLetter;
pub use parse::{Unreadable, parse, step_of, unquoted};
pub use polling::QueueError;
pub use queues::{Destination, Queues, dead_letter_queue, queue_of_dead_letters};
pub use sqs::SqsQueue;
pub use trace::{trace_header, trace_id, traceparent_of};
