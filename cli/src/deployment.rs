//! Which deployment on SQS a command is about, and which queues it has. AWS itself is told by its usual variables, AWS_ENDPOINT_URL
//! among them.

use clap::Args;
use tasker_aws::{CallError, Clients, QueueAdmin, Queues, queue_of_dead_letters};
use tasker_process::BadSetting;

use crate::error::{CommandError, Exit, Result};

/// Where the deployment's queues are.
#[derive(Debug, Args)]
pub struct Which {
    /// What the URLs of the deployment's queues begin with, as http://127.0.0.1:4566/000000000000/tasker- [env: TASKER_QUEUES]
    #[arg(long, global = true, value_name = "URL_PREFIX")]
    queues: Option<String>,
}

/// The queues of a deployment.
pub struct Deployment {
    /// Speaks to SQS.
    pub depot: QueueAdmin,
    /// The names of all queues, sorted; there is at least one.
    names: Vec<String>,
}

impl Which {
    /// Finds the queues.
    pub async fn open(&self) -> Result<Deployment> {
        let queues = self.queues()?;
        let depot = QueueAdmin::new(Clients::from_env().await.sqs, queues);
        let names = depot.names().await.map_err(|error| failure("list the queues", &error))?;
        if names.is_empty() {
            let prefix = depot.queues().prefix();
            let remedy = "give the --queues of a deployment that exists, and the AWS_REGION or AWS_ENDPOINT_URL it is in";
            return Err(CommandError::new(Exit::NotFound, format!("there is no queue of a deployment `{prefix}`: {remedy}")));
        }
        Ok(Deployment { depot, names })
    }
}

impl Which {
    fn queues(&self) -> Result<Queues> {
        let example = "http://127.0.0.1:4566/000000000000/tasker-";
        if let Some(beginning) = self.queues.as_deref().filter(|text| !text.is_empty()) {
            return Queues::new(beginning).map_err(|_| {
                let what = "expected what the URLs of queues begin with, up to the hyphen before a queue's own name";
                CommandError::usage(format!("--queues is wrong: {what}, as {example}, not `{beginning}`"))
            });
        }
        Queues::from_env().map_err(|error| match error {
            BadSetting::Missing { name, .. } => {
                let what = "what the URLs of its queues begin with";
                CommandError::usage(format!("no deployment is named: give --queues or {name}, {what}, as {example}"))
            }
            wrong => wrong.into(),
        })
    }
}

impl Deployment {
    /// The names of the queues that are not for dead letters.
    pub fn working(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| queue_of_dead_letters(name).is_none())
    }

    /// The names of the queues for dead letters.
    pub fn dead(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| queue_of_dead_letters(name).is_some())
    }

    /// Whether there is a queue of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// The dead-letter queue that is meant by a name, whole or without what all names begin or end with; all of them without a name.
    /// Looking into a queue counts as a try in one that gives messages up, so such a queue is refused.
    pub async fn choose(&self, name: Option<&str>) -> Result<Vec<String>> {
        let chosen: Vec<String> = match name {
            Some(name) => vec![self.find(name)?],
            None => self.dead().map(str::to_owned).collect(),
        };
        for queue in &chosen {
            let facts = self.depot.facts(queue).await.map_err(|error| failure(&format!("look at {queue}"), &error))?;
            if facts.max_receives.is_some() {
                let why = "has a redrive policy, by which looking at its messages would use their receives up";
                return Err(CommandError::new(
                    Exit::Conflict,
                    format!("{queue} {why}: remove the policy, as no dead-letter queue needs one"),
                ));
            }
        }
        Ok(chosen)
    }

    fn find(&self, name: &str) -> Result<String> {
        let prefix = self.depot.queues().prefix();
        let meant = |whole: &str| {
            let bare = queue_of_dead_letters(whole).unwrap_or(whole);
            [whole, bare].into_iter().any(|it| it == name || it.strip_prefix(prefix) == Some(name))
        };
        self.dead().find(|whole| meant(whole)).map(str::to_owned).ok_or_else(|| {
            let known = self.dead().collect::<Vec<_>>().join(", ");
            CommandError::new(Exit::NotFound, format!("there is no dead-letter queue `{name}`; there are: {known}"))
        })
    }
}

/// Why SQS did not do something, as the user is told.
pub fn failure(what: &str, error: &CallError) -> CommandError {
    match error {
        CallError::Refused(why) => CommandError::new(Exit::Error, format!("cannot {what}: {why}")),
        CallError::Unanswered(why) => {
            let remedy = "look at AWS_ENDPOINT_URL, AWS_REGION and the credentials, as AWS_ACCESS_KEY_ID or AWS_PROFILE";
            CommandError::new(Exit::Unavailable, format!("cannot {what}, for SQS could not be asked: {why}; {remedy}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn deployment() -> Deployment {
        let queues = Queues::new("https://sqs.example/123/shop-").unwrap();
        let names = ["shop-intake", "shop-intake-dlq", "shop-worker-a", "shop-worker-a-dlq"];
        Deployment { depot: QueueAdmin::new(Clients::from_env().await.sqs, queues), names: names.map(str::to_owned).to_vec() }
    }

    #[tokio::test]
    async fn a_dead_letter_queue_is_found_by_its_whole_name_and_by_the_short_ones() {
        let shop = deployment().await;
        for name in ["shop-worker-a-dlq", "worker-a-dlq", "shop-worker-a", "worker-a"] {
            assert_eq!(shop.find(name).unwrap(), "shop-worker-a-dlq", "{name}");
        }
    }

    #[tokio::test]
    async fn an_unknown_queue_is_not_found_and_the_known_ones_are_named() {
        let failure = deployment().await.find("worker-b").unwrap_err();
        let expected = "there is no dead-letter queue `worker-b`; there are: shop-intake-dlq, shop-worker-a-dlq";
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::NotFound, expected));
    }
}
