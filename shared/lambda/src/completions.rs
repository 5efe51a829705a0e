//! `completion-callback`: what workers say of steps.

use std::sync::Arc;

use serde_json::value::RawValue;
use tasker_queue::Disposition;
use tasker_wire::{Answer, CompleteStep};

use crate::{
    Instance,
    events::QueueEvent,
    messages::messages,
    serve::{Failed, Invocation},
};

/// Applies the completions of a batch, all in one statement.
pub async fn completions(instance: Instance, invocation: Invocation<QueueEvent>) -> Result<Box<RawValue>, Failed> {
    let Invocation { event, deadline } = invocation;
    let applied = messages(&instance, event.records, deadline.time_left(), |engine, batch: Arc<[Arc<CompleteStep>]>| {
        let instance = instance.clone();
        async move {
            let answers = engine.complete(batch).await?;
            if answers.contains(&Answer::Unknown) {
                instance.forget_engine().await;
            }
            Ok(answers.into_iter().map(disposition).collect())
        }
    });
    applied.await
}

fn disposition(answer: Answer) -> Disposition {
    match answer {
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Ignored => Disposition::Done,
        Answer::Refused => Disposition::Dead("its step was never dispatched under this lease".into()),
        Answer::Forged => Disposition::Dead("its token was not issued for this step, lease and attempt".into()),
        // A key that was put into use a moment ago, or a template of a version that is being deployed.
        Answer::Unknown => Disposition::RetryLater,
    }
}
