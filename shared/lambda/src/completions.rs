//! `completion-callback`: what workers say of steps.

use serde_json::value::RawValue;
use tasker_aws::{Received, Unreadable, parse};
use tasker_wire::{Answer, CompleteStep, StepId};

use crate::{
    Instance,
    events::Event,
    messages::{Content, Fate, Letter, messages},
    serve::{Failed, Invocation},
};

impl Content for CompleteStep {
    const KIND: &'static str = "CompleteStep";

    fn read(received: &Received) -> Result<Self, Unreadable> {
        parse(&received.body)
    }

    fn step(&self) -> Option<(StepId, i32)> {
        Some((self.step_id, self.lease))
    }
}

/// Applies the completions of a batch, all in one statement.
pub async fn completions(instance: Instance, invocation: Invocation) -> Result<Box<RawValue>, Failed> {
    let time_left = invocation.time_left();
    let Event::Messages(batch) = invocation.event else {
        return Err(Failed(invocation.event.refuse(&invocation.function, "the messages of the queue of completions")));
    };
    let answered = messages(&instance, batch, time_left, |engine, letters: Vec<Letter<CompleteStep>>| {
        let instance = instance.clone();
        async move {
            let completions: Vec<CompleteStep> = letters.into_iter().map(|letter| letter.content).collect();
            let answers = engine.complete(completions).await?;
            if answers.contains(&Answer::Unknown) {
                instance.forget_engine().await;
            }
            Ok(answers.into_iter().map(fate).collect())
        }
    });
    answered.await
}

fn fate(answer: Answer) -> Fate {
    match answer {
        Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Ignored => Fate::Done,
        Answer::Refused => Fate::Dead("its step was never dispatched under this lease".into()),
        Answer::Forged => Fate::Dead("its token was not issued for this step, lease and attempt".into()),
        // A key that was put into use a moment ago, or a template of a version that is being deployed.
        Answer::Unknown => Fate::Later,
    }
}
