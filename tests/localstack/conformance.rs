//! SQS passes the conformance suite of queues.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_sqs::{Client, types::QueueAttributeName};
use serde_json::json;
use tasker_aws::{Queues, SqsQueue, SqsSource};
use tasker_queue::{Outgoing, Source};
use tasker_test_support::conformance::{Fixture, completion, conformance};
use tasker_wire::{CompleteStep, Evaluate, Outcome};
use tokio_util::sync::CancellationToken;

use crate::deployment::{emulator, sqs};

/// Seconds; longer than a batch takes on a busy machine.
const VISIBILITY: u64 = 8;

struct Sqs {
    client: Client,
    queue: SqsQueue,
    completions: SqsSource<Arc<CompleteStep>>,
    wake_ups: SqsSource<Evaluate>,
    url: String,
}

impl Fixture for Sqs {
    const MAX_RECEIVES: u32 = 4;
    const LIFETIME: Option<Duration> = Some(Duration::from_secs(VISIBILITY));
    type Queue = SqsQueue;
    type Completions = SqsSource<Arc<CompleteStep>>;
    type WakeUps = SqsSource<Evaluate>;

    fn queue(&self) -> &SqsQueue {
        &self.queue
    }

    fn completions(&self) -> &Self::Completions {
        &self.completions
    }

    fn wake_ups(&self) -> &Self::WakeUps {
        &self.wake_ups
    }

    async fn send_text(&self, text: &str) -> bool {
        self.client.send_message().queue_url(&self.url).message_body(text).send().await.unwrap();
        true
    }

    async fn dead(&self, count: usize) -> Vec<String> {
        let dead_letters = async {
            let mut dead_letters = HashMap::new();
            while dead_letters.len() < count {
                let request = self.client.receive_message().queue_url(format!("{}-dlq", self.url)).max_number_of_messages(10);
                let received = request.wait_time_seconds(1).send().await.unwrap().messages.unwrap_or_default();
                dead_letters.extend(received.into_iter().map(|dead_letter| (dead_letter.message_id, dead_letter.body.unwrap())));
            }
            dead_letters.into_values().collect()
        };
        tokio::select! {
            dead_letters = dead_letters => dead_letters,
            // SQS gives a message up at the receive after the last allowed one.
            more = self.completions.receive(1) => panic!("{more:?} is not given up"),
        }
    }

    fn too_large(&self) -> Option<Outgoing> {
        let mut large = CompleteStep::clone(&completion(1));
        let result = serde_json::value::to_raw_value(&"x".repeat(1024 * 1024)).unwrap();
        large.outcome = Outcome::Success { result, metadata: None };
        Some(Outgoing::CompleteStep(Arc::new(large)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqs_conforms() {
    let Some(emulator) = emulator() else { return };
    let (client, prefix) = (sqs(&emulator.endpoint), format!("conforms{}-", std::process::id()));
    let create = async |name: &str, attributes: HashMap<QueueAttributeName, String>| {
        let request = client.create_queue().queue_name(format!("{prefix}{name}")).set_attributes(Some(attributes));
        request.send().await.unwrap().queue_url.unwrap()
    };
    let short = |seconds: u64| HashMap::from([(QueueAttributeName::VisibilityTimeout, seconds.to_string())]);
    let dead = create("completions-dlq", short(120)).await;
    let arn = client.get_queue_attributes().queue_url(&dead).attribute_names(QueueAttributeName::QueueArn);
    let arn = arn.send().await.unwrap().attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
    let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": Sqs::MAX_RECEIVES}).to_string();
    let mut attributes = short(VISIBILITY);
    attributes.insert(QueueAttributeName::RedrivePolicy, policy);
    let url = create("completions", attributes).await;
    let wake_ups = create("readiness", short(VISIBILITY)).await;
    let queues = Queues::new(url.strip_suffix("completions").unwrap()).unwrap();
    let never = CancellationToken::new;
    let fixture = Sqs {
        queue: SqsQueue::new(client.clone(), queues),
        completions: SqsSource::new(client.clone(), url.clone(), never()),
        wake_ups: SqsSource::new(client.clone(), wake_ups.clone(), never()),
        client: client.clone(),
        url: url.clone(),
    };
    conformance(&fixture).await;
    for url in [url, wake_ups, dead] {
        client.delete_queue().queue_url(url).send().await.unwrap();
    }
}
