//! The pool's queue on SQS as a source.

use std::{collections::HashMap, time::Duration};

use aws_lambda_events::event::sqs::SqsEvent;
use parking_lot::Mutex;
use tasker_aws::{Batch, QueueError, Received, SqsSource, parse};
use tasker_queue::{Delivery, Disposition, Receipt, Source, Unreadable};
use tasker_wire::RunStep;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long one call waits for messages; SQS waits no longer.
pub const WAIT: Duration = Duration::from_secs(20);
/// The pause after a call that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub struct SqsSteps {
    queue: SqsSource,
    /// After this a receive ends with the call that is under way.
    shutdown: CancellationToken,
    /// By their handles, messages that can never be read.
    malformed: Mutex<HashMap<String, Received>>,
}

impl SqsSteps {
    pub fn new(queue: SqsSource, shutdown: CancellationToken) -> Self {
        Self { queue, shutdown, malformed: Mutex::default() }
    }

    pub async fn visibility(&self) -> Result<Duration, QueueError> {
        self.queue.visibility().await
    }

    /// The messages of an invocation.
    pub fn read_event(&self, event: SqsEvent) -> Vec<Delivery<RunStep>> {
        Batch::of(event).messages.into_iter().map(|received| self.read(received)).collect()
    }

    fn read(&self, received: Received) -> Delivery<RunStep> {
        let receipt = Receipt { id: received.id.clone(), handle: received.receipt.clone(), receives: received.receives };
        let receives = received.receives;
        let message = parse::<RunStep>(&received.body).map_err(|unreadable| match unreadable {
            tasker_aws::Unreadable::OtherVersion(v) => Unreadable::OtherVersion(v),
            tasker_aws::Unreadable::Malformed(reason) => Unreadable::Malformed(reason),
        });
        if matches!(message, Err(Unreadable::Malformed(_))) {
            self.malformed.lock().insert(received.receipt.clone(), received);
        }
        Delivery { message, receives, receipt }
    }

    /// Copies a message that can never be read to the dead letters. True: it is safe there.
    pub async fn dead_letter(&self, receipt: &Receipt, reason: &str) -> bool {
        let message = self.malformed.lock().remove(&receipt.handle);
        match message {
            Some(message) => self.queue.bury(&message, reason).await,
            None => false,
        }
    }
}

fn received(receipt: &Receipt) -> Received {
    let Receipt { id, handle, receives } = receipt.clone();
    Received { id, receipt: handle, receives, body: String::new(), traceparent: None, source_id: None }
}

impl Source for SqsSteps {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        let mut failures: u32 = 0;
        while !self.shutdown.is_cancelled() {
            match self.queue.receive(max, WAIT).await {
                Ok(messages) => {
                    if failures > 0 {
                        tracing::info!(failures, "messages can be received again");
                    }
                    failures = 0;
                    if !messages.is_empty() {
                        return messages.into_iter().map(|message| self.read(message)).collect();
                    }
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "messages cannot be received; it is tried again");
                    }
                    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
                    failures += 1;
                    self.shutdown.run_until_cancelled(sleep(pause)).await;
                }
            }
        }
        Vec::new()
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        let (mut done, mut later) = (Vec::new(), Vec::new());
        for (receipt, disposition) in settled {
            let is_done = match disposition {
                Disposition::Done => true,
                Disposition::RetryLater => false,
                Disposition::Dead(reason) => self.dead_letter(&receipt, &reason).await,
            };
            if is_done { done.push(received(&receipt)) } else { later.push(received(&receipt)) }
        }
        self.queue.delete(&done.iter().collect::<Vec<_>>()).await;
        self.queue.postpone(&later.iter().collect::<Vec<_>>()).await;
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        let messages: Vec<Received> = deliveries.iter().map(received).collect();
        self.queue.keep(&messages.iter().collect::<Vec<_>>(), time).await;
    }
}
