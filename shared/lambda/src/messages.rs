//! Works on the messages of an event. Those without success are delivered again.

use std::{future::Future, sync::Arc, time::Duration};

use aws_lambda_events::event::sqs;
use serde_json::{json, value::to_raw_value};
use tasker_aws::{SqsSource, batch_response};
use tasker_queue::{Consumer, Content, Disposition, Limits, Receipt, Source, WorkError, consume};
use tasker_store::StoreError;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    Instance,
    instance::{EngineError, FunctionEngine},
    serve::{Failed, InvocationResult},
};

/// The work ends this long before the deadline of the invocation, so the response arrives in time.
const TO_ANSWER: Duration = Duration::from_secs(3);
/// The part of that in which the retry delays of messages may be set.
const TO_POSTPONE: Duration = Duration::from_secs(2);

/// Works on a batch by `verb`, which returns one disposition per message, in their order. The response lists the messages to deliver
/// again.
pub(crate) async fn messages<M, F, Fut>(
    instance: &Instance,
    records: Vec<sqs::SqsMessage>,
    time_left: Duration,
    verb: F,
) -> InvocationResult
where
    M: Content,
    F: Fn(Arc<FunctionEngine>, Arc<[M]>) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Vec<Disposition>, StoreError>> + Send,
{
    // All records of an event are from one queue.
    let arn = records.first().and_then(|record| record.event_source_arn.clone()).unwrap_or_default();
    let source = instance.source::<M>(&arn).ok_or_else(|| {
        Failed(format!("`{arn}` is not the ARN of an SQS queue: invoke this function by an event source mapping of its queue"))
    })?;
    let until = Instant::now() + time_left.saturating_sub(TO_ANSWER);
    let limits = Limits { max_receives: instance.max_receives(), until: Some(until) };
    let batch = source.deliveries(records);
    let mut handling = Handling { instance, source: &source, verb, can_note: true };
    let mut later = Vec::new();
    // Boxed, because the compiler rejects the type of the whole future as too large.
    for (receipt, disposition) in Box::pin(consume(batch, limits, &handling)).await {
        let done = match disposition {
            Disposition::Done => true,
            Disposition::RetryLater | Disposition::Postponed => false,
            Disposition::Dead(reason) => Box::pin(handling.dead_letter(&receipt, &reason, until)).await,
        };
        if !done {
            later.push((receipt, Disposition::RetryLater));
        }
    }
    let response = batch_response(later.iter().map(|(receipt, _)| receipt.id.clone()));
    // If this is too late, the messages are delivered again after their visibility timeout.
    let _ = timeout_at(until + TO_POSTPONE, source.settle(later)).await;
    Ok(to_raw_value(&response)?)
}

struct Handling<'a, M, F> {
    instance: &'a Instance,
    source: &'a SqsSource<M>,
    verb: F,
    /// Whether the last DLQ entry could be written.
    can_note: bool,
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
        let engine = self.instance.engine().await?;
        #[cfg(feature = "failpoints")]
        messages.iter().for_each(crate::failpoints::panic_on);
        Ok((self.verb)(engine, messages).await.map_err(EngineError::from)?)
    }

    async fn note(&self, message: &M, receipt: &Receipt) -> Result<Option<Uuid>, WorkError> {
        let Some(lease) = message.lease() else { return Ok(None) };
        let known = json!({"message_id": receipt.id, "kind": M::KIND, "lease": lease.number, "receives": receipt.receives,
            "queue": self.source.name(), "reason": "the message reached its last receive without success"});
        let engine = self.instance.engine().await?;
        let entry = engine.store().open_dlq_entry(lease.step, "poison_message", &known.to_string()).await;
        Ok(entry.map_err(EngineError::from)?)
    }

    async fn remove_note(&self, entry: Uuid) -> Result<(), WorkError> {
        let engine = self.instance.engine().await?;
        Ok(engine.store().remove_dlq_entry(entry).await.map_err(EngineError::from)?)
    }
}

impl<M: Content, F> Handling<'_, M, F> {
    /// Moves a message to the dead-letter queue, and opens a DLQ entry if it names a step. If true, it may be deleted from its queue.
    async fn dead_letter(&mut self, receipt: &Receipt, reason: &str, until: Instant) -> bool {
        if let Some(step) = self.source.step_of(receipt) {
            let known = json!({"message_id": receipt.id, "queue": self.source.name(), "reason": reason});
            let note = async {
                let engine = self.instance.engine().await?;
                Ok::<_, EngineError>(engine.store().open_dlq_entry(step, "malformed_message", &known.to_string()).await?)
            };
            self.can_note = self.can_note && timeout_at(until, note).await.is_ok_and(|noted| noted.is_ok());
            if !self.can_note {
                tracing::warn!(
                    message_id = receipt.id,
                    "the DLQ entry of a dead letter cannot be written; it is delivered again"
                );
                return false;
            }
        }
        dead_letter_until(until, self.source, receipt, reason).await
    }
}

/// What is not sent at `until` is delivered again.
async fn dead_letter_until<M: Content>(until: Instant, source: &SqsSource<M>, receipt: &Receipt, reason: &str) -> bool {
    timeout_at(until, source.dead_letter(receipt, reason)).await.unwrap_or(false)
}

impl From<EngineError> for WorkError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Store(error) if !error.is_transient() => Self::Defect(error.to_string()),
            prevented => Self::Later(prevented.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::{
        Client,
        config::{BehaviorVersion, Credentials, Region},
    };
    use tasker_wire::Evaluate;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_dead_letter_that_sqs_does_not_answer_is_delivered_again_in_time() {
        // It accepts connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("test"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .http_client(tasker_aws::https())
            .endpoint_url(&endpoint)
            .build();
        let url = format!("{endpoint}/0/readiness");
        let source: SqsSource<Evaluate> = SqsSource::new(Client::from_conf(config), url, CancellationToken::new());
        let mut record = sqs::SqsMessage::default();
        record.body = Some("{".into());
        let delivery = source.deliveries([record]).remove(0);
        let until = Instant::now() + Duration::from_millis(50);
        let sent =
            tokio::time::timeout(Duration::from_secs(20), dead_letter_until(until, &source, &delivery.receipt, "it is no JSON"));
        assert_eq!(sent.await, Ok(false));
        assert!(until.elapsed() < Duration::from_secs(2), "{:?}", until.elapsed());
    }
}
