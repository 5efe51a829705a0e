//! AWS: the queues on SQS, clients, and trace headers. This crate knows of workflows only their messages, and no database.

mod clients;
mod errors;
mod queues;
mod sqs;
mod trace;

pub use clients::{Clients, https};
pub use errors::call_error;
pub use queues::{Destination, Queues, dead_letter_queue, queue_of_dead_letters};
pub use sqs::{
    CallError, Move, QueueAdmin, QueueFacts, REASON, SOURCE_MESSAGE_ID, SqsMessage, SqsQueue, SqsSource, batch_response,
};
pub use trace::{trace_header, traceparent_of};
