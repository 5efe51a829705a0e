//! `tasker-ctl queues`: what is in the queues of a deployment. Nothing is received from a queue that is worked on: a receive would
//! count as a try of its messages.

use clap::Args;
use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tasker_aws::{QueueAdmin, QueueFacts, SqsMessage, dead_letter_queue, queue_of_dead_letters};

use crate::{
    deployment::{Deployment, Which, failure},
    error::Result,
    output::{self, Format, age, table},
};

/// Seconds that dead letters are hidden by the look at their age, if they are not given back.
const HIDDEN_SECONDS: u16 = 5;

/// Which queues.
#[derive(Debug, Args)]
#[command(after_help = crate::dlq::JSON)]
pub struct QueuesArgs {
    #[command(flatten)]
    deployment: Which,
}

/// A queue that is worked on.
#[derive(Debug, Serialize)]
struct Working {
    name: String,
    waiting: u64,
    in_flight: u64,
    delayed: u64,
    dead_letters: Option<u64>,
    visibility_seconds: u64,
    max_receives: Option<u64>,
}

/// A queue for dead letters that has some.
#[derive(Debug, Serialize)]
struct Dead {
    name: String,
    letters: u64,
    /// Of the oldest one that was seen.
    oldest_age_seconds: Option<i64>,
    /// All were seen.
    exact: bool,
}

/// Runs the command.
pub async fn run(args: &QueuesArgs, format: Format) -> Result {
    let deployment = args.deployment.open().await?;
    let dead = facts(&deployment, deployment.dead()).await?;
    let working = facts(&deployment, deployment.working()).await?;
    let working: Vec<Working> = working.into_iter().map(|(name, facts)| Working::of(name, &facts, &dead)).collect();
    let filled = dead.iter().filter(|(_, facts)| facts.total() > 0);
    let dead = join_all(filled.map(|(name, facts)| look(&deployment.depot, name, facts))).await;
    match format {
        Format::Json => output::print_json(&json!({"queues": working, "dead_letters": dead}).to_string()),
        Format::Table => output::print(&view(&working, &dead)),
    }
}

async fn facts<'a>(deployment: &Deployment, names: impl Iterator<Item = &'a str>) -> Result<Vec<(String, QueueFacts)>> {
    let one = |name: &'a str| async move {
        let facts = deployment.depot.facts(name).await.map_err(|error| failure(&format!("look at {name}"), &error))?;
        Ok((name.to_owned(), facts))
    };
    try_join_all(names.map(one)).await
}

/// The age is left out when it cannot be had: where a look would use receives up, and where SQS does not answer in time.
async fn look(depot: &QueueAdmin, name: &str, facts: &QueueFacts) -> Dead {
    let mut dead = Dead { name: name.to_owned(), letters: facts.total(), oldest_age_seconds: None, exact: false };
    if facts.max_receives.is_some() {
        return dead;
    }
    let letters = depot.receive(name, HIDDEN_SECONDS, 1).await.unwrap_or_default();
    depot.release(name, &letters.iter().map(SqsMessage::receipt).collect::<Vec<_>>()).await;
    let sent = letters.iter().filter_map(|letter| Timestamp::from_millisecond(letter.sent_ms?).ok()).min();
    dead.oldest_age_seconds = sent.map(|sent| Timestamp::now().duration_since(sent).as_secs().max(0));
    dead.exact = letters.len() as u64 >= facts.total();
    dead
}

fn view(working: &[Working], dead: &[Dead]) -> String {
    let header = ["QUEUE", "WAITING", "IN FLIGHT", "DELAYED", "DEAD LETTERS", "VISIBILITY", "MAX RECEIVES"];
    let mut view = table(&header, working.iter().map(Working::row));
    view.push('\n');
    dead.iter().for_each(|dead| view.push_str(&format!("\n! {}", dead.view())));
    view
}

impl Working {
    fn of(name: String, facts: &QueueFacts, dead: &[(String, QueueFacts)]) -> Self {
        let its = dead_letter_queue(&name);
        Self {
            dead_letters: dead.iter().find(|(name, _)| *name == its).map(|(_, facts)| facts.total()),
            waiting: facts.waiting,
            in_flight: facts.in_flight,
            delayed: facts.delayed,
            visibility_seconds: facts.visibility_seconds,
            max_receives: facts.max_receives,
            name,
        }
    }

    fn row(&self) -> Vec<String> {
        let letters = match self.dead_letters {
            None => "no queue for them".to_owned(),
            Some(0) => "0".to_owned(),
            Some(count) => format!("{count} !"),
        };
        vec![
            self.name.clone(),
            self.waiting.to_string(),
            self.in_flight.to_string(),
            self.delayed.to_string(),
            letters,
            format!("{} s", self.visibility_seconds),
            self.max_receives.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        ]
    }
}

impl Dead {
    fn view(&self) -> String {
        let plural = if self.letters == 1 { "" } else { "s" };
        let age = self.oldest_age_seconds.map(age).unwrap_or_default();
        let age = match (self.oldest_age_seconds, self.exact) {
            (None, _) => String::new(),
            (Some(_), true) => format!(", the oldest sent {age} ago"),
            (Some(_), false) => format!(", the oldest sent {age} ago or more"),
        };
        let bare = queue_of_dead_letters(&self.name).unwrap_or(&self.name);
        format!("{} holds {} dead letter{plural}{age}: tasker-ctl dlq list --queue {bare}", self.name, self.letters)
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
            ["shop-intake", "shop-readiness", "shop-worker-a"].map(|name| Working::of(name.to_owned(), &facts(4), &dead));
        let filled = Dead { name: "shop-intake-dlq".into(), letters: 12, oldest_age_seconds: Some(7260), exact: false };
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
                "! shop-intake-dlq holds 12 dead letters, the oldest sent 2 h 01 min ago or more: tasker-ctl dlq list --queue shop-intake",
            ]
        );
    }
}
