//! The handlers of the templates in `config/templates/samples`, one module a template.
//!
//! `tasker-ctl dev --templates config/templates/samples --worker default=target/debug/tasker-example-rust`

mod approval;
mod checkpoint;
mod diamond_batch;
mod ecommerce;
mod inventory;
mod pipeline;
mod registration;
mod resumption;
mod review;

use tasker_sdk::Worker;

/// Registers the handlers of all samples.
pub fn register(worker: Worker) -> Worker {
    let worker = approval::register(inventory::register(resumption::register(worker)));
    let worker = checkpoint::register(diamond_batch::register(review::register(worker)));
    ecommerce::register(pipeline::register(registration::register(worker)))
}
