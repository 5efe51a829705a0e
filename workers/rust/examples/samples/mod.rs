//! The handlers of the templates in `config/templates/samples`, one module a template.
//!
//! `tasker-ctl dev --templates config/templates/samples --worker default=target/debug/tasker-example-rust`

mod approval;
mod checkpoint;
mod dataset;
mod diamond_batch;
mod ecommerce;
mod inventory;
mod methods;
mod pipeline;
mod refunds;
mod registration;
mod resumption;
mod retries;
mod review;

use tasker_sdk::Worker;

/// Registers the handlers of all samples.
pub fn register(worker: Worker) -> Worker {
    let all = [
        approval::register,
        checkpoint::register,
        dataset::register,
        diamond_batch::register,
        ecommerce::register,
        inventory::register,
        methods::register,
        pipeline::register,
        refunds::register,
        registration::register,
        resumption::register,
        retries::register,
        review::register,
    ];
    all.into_iter().fold(worker, |worker, register| register(worker))
}
