//! A batch of messages of a queue: the engine works on them, and what is not done with comes again.

use std::{future::Future, marker::PhantomData, sync::Arc, time::Duration};

use aws_lambda_events::event::sqs;
use serde_json::{json, value::RawValue, value::to_raw_value};
use tasker_aws::{Content, SqsSource, batch_response};
use tasker_queue::{Consumer, Disposition, Limits, Receipt, Source, WorkError, consume};
use tasker_store::StoreError;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    Instance,
    instance::{FunctionEngine, NoEngine},
    serve::Failed,
};

/// Left of an invocation when it answers, whatever is not done then.
const TO_ANSWER: Duration = Duration::from_secs(3);
/// How much of that it may take to put messages off.
const TO_POSTPONE: Duration = Duration::from_secs(2);

/// Works on a batch by `verb`, which answers a disposition for each message in their order. Answers the ids that must come again.
pub(crate) async fn messages<M, F, Fut>(
    instance: &Instance,
    records: Vec<sqs::SqsMessage>,
    time_left: Duration,
    verb: F,
) -> Result<Box<RawValue>, Failed>
where
    M: Content,
    F: Fn(Arc<FunctionEngine>, Arc<[M]>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Vec<Disposition>, StoreError>> + Send,
{
    // An event source belongs to one queue.
    let arn = records.first().and_then(|record| record.event_source_arn.clone()).unwrap_or_default();
    let source = instance.source::<M>(&arn).ok_or_else(|| {
        Failed(format!("the messages come from `{arn}`, which is no queue of SQS: TASKER_QUEUES cannot name it"))
    })?;
    let until = Instant::now() + time_left.saturating_sub(TO_ANSWER);
    let limits = Limits { max_receives: instance.max_receives(), until: Some(until) };
    let batch = source.deliveries(records);
    let mut handling = Handling { instance, queue: source.name(), verb, can_note: true, content: PhantomData };
    let mut later = Vec::new();
    // Boxed, because the whole future is too large a type for the compiler.
    let settled = Box::pin(consume(batch, limits, &handling)).await;
    for (receipt, disposition) in settled {
        let done = match disposition {
            Disposition::Done => true,
            Disposition::RetryLater => false,
            Disposition::Dead(reason) => Box::pin(handling.dead_letter(&source, &receipt, &reason, until)).await,
        };
        if !done {
            later.push((receipt, Disposition::RetryLater));
        }
    }
    let response = batch_response(later.iter().map(|(receipt, _)| receipt.id.clone()));
    // What does not go through in time comes again when its visibility time-out is over.
    let _ = timeout_at(until + TO_POSTPONE, source.settle(later)).await;
    Ok(to_raw_value(&response).expect("a response serializes"))
}

struct Handling<'a, M, F> {
    instance: &'a Instance,
    queue: &'a str,
    verb: F,
    /// The database took the last note.
    can_note: bool,
    content: PhantomData<fn() -> M>,
}

impl<M, F, Fut> Consumer for Handling<'_, M, F>
where
    M: Content,
    F: Fn(Arc<FunctionEngine>, Arc<[M]>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Vec<Disposition>, StoreError>> + Send,
{
    type Message = M;
    type Note = Uuid;

    async fn work(&self, messages: Arc<[M]>) -> Result<Vec<Disposition>, WorkError> {
        let engine = self.instance.engine().await.map_err(work_error)?;
        #[cfg(feature = "failpoints")]
        messages.iter().for_each(crate::failpoints::panic_on);
        (self.verb)(engine, messages).await.map_err(|error| work_error(error.into()))
    }

    async fn note(&self, message: &M, receipt: &Receipt) -> Result<Option<Uuid>, WorkError> {
        let Some(lease) = message.lease() else { return Ok(None) };
        let known = json!({"message_id": receipt.id, "kind": M::KIND, "lease": lease.number, "receives": receipt.receives,
            "queue": self.queue, "reason": "the message was received so often without success"});
        let engine = self.instance.engine().await.map_err(work_error)?;
        let noted = engine.store().open_dlq_entry(lease.step, "poison_message", &known.to_string()).await;
        noted.map_err(|error| work_error(error.into()))
    }

    async fn strike_out(&self, entry: Uuid) {
        if let Ok(engine) = self.instance.engine().await
            && let Err(error) = engine.store().remove_dlq_entry(entry).await
        {
            tracing::warn!(%entry, %error, "the entry about a message that was handled stays until the sweep finds it");
        }
    }
}

impl<M: Content, F> Handling<'_, M, F> {
    /// Puts what can never be handled into the dead-letter queue, and notes it when it is about a step. True: it may leave its queue.
    async fn dead_letter(&mut self, source: &SqsSource<M>, receipt: &Receipt, reason: &str, until: Instant) -> bool {
        if let Some(step) = source.step_of(receipt) {
            let known = json!({"message_id": receipt.id, "queue": self.queue, "reason": reason});
            let note = async {
                let engine = self.instance.engine().await?;
                Ok::<_, NoEngine>(engine.store().open_dlq_entry(step, "malformed_message", &known.to_string()).await?)
            };
            self.can_note = self.can_note && timeout_at(until, note).await.is_ok_and(|noted| noted.is_ok());
            if !self.can_note {
                tracing::warn!(message_id = receipt.id, "a dead letter cannot be noted; it comes again");
                return false;
            }
        }
        source.dead_letter(receipt, reason).await
    }
}

fn work_error(error: NoEngine) -> WorkError {
    match error {
        NoEngine::Store(error) if !error.is_transient() => WorkError::Defect(error.to_string()),
        prevented => WorkError::Later(prevented.to_string()),
    }
}
