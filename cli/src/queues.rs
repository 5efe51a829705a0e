//! `tasker-ctl queues`: the content of a deployment's queues. It receives nothing from a queue that is not for dead letters, because each
//! receive counts as a try of its message.

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tasker_aws::{QueueAdmin, QueueFacts, SqsMessage, dead_letter_queue, queue_of_dead_letters};

use crate::{
    deployment::{DeploymentArgs, failure},
    error::Result,
    output::{self, Format, age, counted, table},
};

/// How long a received dead letter stays hidden if this command does not show it again.
const HIDDEN_SECONDS: u16 = 5;

/// A queue that is not for dead letters.
struct WorkQueue {
    name: String,
    facts: QueueFacts,
    /// The number in its dead-letter queue, if it has one.
    dead_letters: Option<u64>,
}

/// A dead-letter queue that is not empty.
#[derive(Debug, Serialize)]
struct DeadLetterQueue {
    name: String,
    dead_letters: u64,
    /// The age of the oldest message that was received.
    oldest_age_seconds: Option<i64>,
    /// Whether all messages were received.
    exact: bool,
}

pub async fn run(args: &DeploymentArgs, format: Format) -> Result {
    let deployment = args.open().await?;
    let dead = facts(&deployment.admin, &deployment.dead).await?;
    let working = facts(&deployment.admin, &deployment.working).await?;
    let working: Vec<WorkQueue> = working.into_iter().map(|(name, facts)| WorkQueue::new(name, facts, &dead)).collect();
    let filled = dead.iter().filter(|(_, facts)| facts.total() > 0);
    let dead = join_all(filled.map(|(name, facts)| look(&deployment.admin, name, facts))).await;
    let queues: Vec<Value> = working.iter().map(WorkQueue::document).collect();
    output::print_document(&json!({"queues": queues, "dead_letters": dead}), format, || view(&working, &dead))
}

async fn facts(admin: &QueueAdmin, names: &[String]) -> Result<Vec<(String, QueueFacts)>> {
    let one = async |name: &String| {
        let facts = admin.facts(name).await.map_err(|error| failure(&format!("look at {name}"), &error))?;
        Ok((name.clone(), facts))
    };
    try_join_all(names.iter().map(one)).await
}

/// There is no age if a receive would count against a redrive policy, or if SQS does not answer in time.
async fn look(admin: &QueueAdmin, name: &str, facts: &QueueFacts) -> DeadLetterQueue {
    let mut dead = DeadLetterQueue { name: name.to_owned(), dead_letters: facts.total(), oldest_age_seconds: None, exact: false };
    if facts.max_receives.is_some() {
        return dead;
    }
    let messages = admin.receive(name, HIDDEN_SECONDS, 1).await.unwrap_or_default();
    admin.release(name, &messages.iter().map(SqsMessage::receipt).collect::<Vec<_>>()).await;
    let sent = messages.iter().filter_map(|message| Timestamp::from_millisecond(message.sent_ms?).ok()).min();
    dead.oldest_age_seconds = sent.map(|sent| Timestamp::now().duration_since(sent).as_secs().max(0));
    dead.exact = messages.len() as u64 >= facts.total();
    dead
}

fn view(working: &[WorkQueue], dead: &[DeadLetterQueue]) -> String {
    let header = ["QUEUE", "WAITING", "IN FLIGHT", "DELAYED", "DEAD LETTERS", "VISIBILITY", "MAX RECEIVES"];
    let mut view = table(&header, working.iter().map(WorkQueue::row));
    view.push('\n');
    working.iter().filter_map(WorkQueue::unserved).for_each(|unserved| view.push_str(&format!("\n! {unserved}")));
    dead.iter().for_each(|dead| view.push_str(&format!("\n! {}", dead.view())));
    view
}

impl WorkQueue {
    fn new(name: String, facts: QueueFacts, dead: &[(String, QueueFacts)]) -> Self {
        let its = dead_letter_queue(&name);
        let dead_letters = dead.iter().find(|(name, _)| *name == its).map(|(_, facts)| facts.total());
        Self { name, facts, dead_letters }
    }

    /// If messages wait for a pool's workers and none is in flight, what that probably means.
    fn unserved(&self) -> Option<String> {
        let (_, pool) = self.name.rsplit_once("worker-")?;
        let QueueFacts { waiting, in_flight, .. } = self.facts;
        let count = counted(waiting, "message");
        (waiting > 0 && in_flight == 0)
            .then(|| format!("{} holds {count} and none is in flight: is a worker of the pool {pool} running?", self.name))
    }

    fn document(&self) -> Value {
        let QueueFacts { waiting, in_flight, delayed, visibility_seconds, max_receives, .. } = &self.facts;
        json!({"name": self.name, "waiting": waiting, "in_flight": in_flight, "delayed": delayed, "dead_letters": self.dead_letters,
            "visibility_seconds": visibility_seconds, "max_receives": max_receives, "unserved": self.unserved().is_some()})
    }

    fn row(&self) -> Vec<String> {
        let dead_letters = match self.dead_letters {
            None => "no queue for them".to_owned(),
            Some(0) => "0".to_owned(),
            Some(count) => format!("{count} !"),
        };
        vec![
            self.name.clone(),
            self.facts.waiting.to_string(),
            self.facts.in_flight.to_string(),
            self.facts.delayed.to_string(),
            dead_letters,
            format!("{} s", self.facts.visibility_seconds),
            self.facts.max_receives.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        ]
    }
}

impl DeadLetterQueue {
    fn view(&self) -> String {
        let at_least = if self.exact { "" } else { " or more" };
        let age = self.oldest_age_seconds.map(|it| format!(", the oldest sent {} ago{at_least}", age(it))).unwrap_or_default();
        let bare = queue_of_dead_letters(&self.name).unwrap_or(&self.name);
        let count = counted(self.dead_letters, "dead letter");
        format!("{} holds {count}{age}: tasker-ctl dlq list --queue {bare}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_queue_that_is_not_empty_is_marked_and_named() {
        let facts = |waiting| QueueFacts { waiting, visibility_seconds: 180, max_receives: Some(100), ..QueueFacts::default() };
        let dead = [("shop-intake-dlq".to_owned(), facts(12)), ("shop-readiness-dlq".to_owned(), facts(0))];
        let working =
            ["shop-intake", "shop-readiness", "shop-worker-a"].map(|name| WorkQueue::new(name.to_owned(), facts(4), &dead));
        let filled =
            DeadLetterQueue { name: "shop-intake-dlq".into(), dead_letters: 12, oldest_age_seconds: Some(7260), exact: false };
        let shown = view(&working, &[filled]);
        let lines: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "QUEUE WAITING IN FLIGHT DELAYED DEAD LETTERS VISIBILITY MAX RECEIVES",
                "shop-intake 4 0 0 12 ! 180 s 100",
                "shop-readiness 4 0 0 0 180 s 100",
                "shop-worker-a 4 0 0 no queue for them 180 s 100",
                "",
                "! shop-worker-a holds 4 messages and none is in flight: is a worker of the pool a running?",
                "! shop-intake-dlq holds 12 dead letters, the oldest sent 2 h 01 min ago or more: tasker-ctl dlq list --queue shop-intake",
            ]
        );
    }
}
