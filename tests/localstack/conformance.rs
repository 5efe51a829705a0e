//! SQS passes the conformance suite of queues.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    types::{Message, QueueAttributeName},
};
use serde_json::{Value, json};
use tasker_aws::{Queues, SqsQueue, SqsSource};
use tasker_queue::Outgoing;
use tasker_test_support::conformance::{Fixture, POOL, completion, conformance};
use tasker_wire::{CompleteStep, Evaluate, Outcome, RunStep, StepId};
use tokio_util::sync::CancellationToken;

use crate::deployment::{emulator, sqs};

/// Seconds; longer than a batch takes on a busy machine.
const VISIBILITY: u64 = 8;

struct Sqs {
    client: Client,
    queue: SqsQueue,
    completions: SqsSource<Arc<CompleteStep>>,
    wake_ups: SqsSource<Evaluate>,
    steps: SqsSource<RunStep>,
    completions_url: String,
    steps_url: String,
}

impl Fixture for Sqs {
    const MAX_RECEIVES: u32 = 4;
    const STEP_RECEIVES: Option<u32> = Some(3);
    const LIFETIME: Option<Duration> = Some(Duration::from_secs(VISIBILITY));
    const TELLS_UNWANTED: bool = false;
    type Queue = SqsQueue;
    type Completions = SqsSource<Arc<CompleteStep>>;
    type WakeUps = SqsSource<Evaluate>;
    type Steps = SqsSource<RunStep>;

    fn queue(&self) -> &SqsQueue {
        &self.queue
    }

    fn completions(&self) -> &Self::Completions {
        &self.completions
    }

    fn wake_ups(&self) -> &Self::WakeUps {
        &self.wake_ups
    }

    fn steps(&self) -> &Self::Steps {
        &self.steps
    }

    async fn send_text(&self, text: &str) -> bool {
        self.client.send_message().queue_url(&self.completions_url).message_body(text).send().await.unwrap();
        true
    }

    async fn dead(&self, count: usize) -> Vec<Option<StepId>> {
        self.dead_letters(&self.completions_url, count).await
    }

    async fn dead_steps(&self, count: usize) -> Vec<Option<StepId>> {
        self.dead_letters(&self.steps_url, count).await
    }

    fn too_large(&self) -> Option<Outgoing> {
        let mut large = CompleteStep::clone(&completion(1));
        let result = serde_json::value::to_raw_value(&"x".repeat(1024 * 1024)).unwrap();
        large.outcome = Outcome::success(result, None);
        Some(Outgoing::CompleteStep(Arc::new(large)))
    }

    fn more_than_it_holds(&self) -> Option<Vec<Arc<CompleteStep>>> {
        None
    }
}

impl Sqs {
    async fn dead_letters(&self, url: &str, count: usize) -> Vec<Option<StepId>> {
        let mut steps = Vec::new();
        while steps.len() < count {
            // SQS gives a message up at the receive after the last allowed one.
            let more = self.receive(url).await;
            assert!(more.is_empty(), "{more:?} is not given up");
            let dead_letter_queue = format!("{url}-dlq");
            for dead_letter in self.receive(&dead_letter_queue).await {
                let body: Value = serde_json::from_str(&dead_letter.body.unwrap()).unwrap_or_default();
                steps.push(body["step_id"].as_str().map(|id| id.parse().unwrap()));
                let handle = dead_letter.receipt_handle.unwrap();
                self.client.delete_message().queue_url(&dead_letter_queue).receipt_handle(handle).send().await.unwrap();
            }
        }
        steps
    }

    async fn receive(&self, url: &str) -> Vec<Message> {
        let request = self.client.receive_message().queue_url(url).max_number_of_messages(10).wait_time_seconds(1);
        request.send().await.unwrap().messages.unwrap_or_default()
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
    let with_dead_letters = async |name: &str, max_receives: u32| {
        let dead = create(&format!("{name}-dlq"), short(120)).await;
        let arn = client.get_queue_attributes().queue_url(&dead).attribute_names(QueueAttributeName::QueueArn);
        let arn = arn.send().await.unwrap().attributes.unwrap()[&QueueAttributeName::QueueArn].clone();
        let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": max_receives}).to_string();
        let mut attributes = short(VISIBILITY);
        attributes.insert(QueueAttributeName::RedrivePolicy, policy);
        (create(name, attributes).await, dead)
    };
    let (completions_url, dead_completions) = with_dead_letters("completions", Sqs::MAX_RECEIVES).await;
    let (steps_url, dead_steps) = with_dead_letters(&format!("worker-{POOL}"), Sqs::STEP_RECEIVES.unwrap()).await;
    let wake_ups = create("readiness", short(VISIBILITY)).await;
    let queues = Queues::new(completions_url.strip_suffix("completions").unwrap()).unwrap();
    let never = CancellationToken::new;
    let fixture = Sqs {
        queue: SqsQueue::new(client.clone(), queues),
        completions: SqsSource::new(client.clone(), completions_url.clone(), never()),
        steps: SqsSource::new(client.clone(), steps_url.clone(), never()),
        wake_ups: SqsSource::new(client.clone(), wake_ups.clone(), never()),
        client: client.clone(),
        completions_url: completions_url.clone(),
        steps_url: steps_url.clone(),
    };
    conformance(&fixture).await;
    for url in [completions_url, steps_url, wake_ups, dead_completions, dead_steps] {
        client.delete_queue().queue_url(url).send().await.unwrap();
    }
}
