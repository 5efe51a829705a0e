//! `completion-callback`: applies the outcomes of steps.

use std::sync::Arc;

use tasker_engine::disposition;
use tasker_wire::{Answer, CompleteStep};

use crate::{
    Instance,
    events::QueueEvent,
    messages::messages,
    serve::{Invocation, InvocationResult},
};

pub async fn completions(instance: Instance, invocation: Invocation<QueueEvent>) -> InvocationResult {
    let Invocation { event, deadline } = invocation;
    messages(&instance, event.records, deadline.time_left(), |engine, batch: Arc<[Arc<CompleteStep>]>| {
        let instance = instance.clone();
        async move {
            let answers = engine.complete(batch).await?;
            if answers.contains(&Answer::Unknown) {
                instance.forget_engine().await;
            }
            Ok(answers.into_iter().map(disposition).collect())
        }
    })
    .await
}
