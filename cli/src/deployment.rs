//! Finds the queues of a deployment on SQS. AWS's standard variables configure the client, including AWS_ENDPOINT_URL.

use clap::Args;
use tasker_aws::{CallError, Clients, QueueAdmin, Queues, queue_of_dead_letters};
use tasker_domain::did_you_mean;
use tasker_process::BadSetting;

use crate::error::{CommandError, Exit, Result};

#[derive(Debug, Args)]
pub struct DeploymentArgs {
    /// The prefix of the URLs of the deployment's queues, such as http://127.0.0.1:4566/000000000000/tasker- [env: TASKER_QUEUES]
    #[arg(long, global = true, value_name = "URL_PREFIX")]
    queues: Option<String>,
}

pub struct QueueDeployment {
    pub admin: QueueAdmin,
    /// The names of the queues that are not dead-letter queues, sorted.
    pub working: Vec<String>,
    /// The names of its dead-letter queues, sorted.
    pub dead: Vec<String>,
}

impl DeploymentArgs {
    /// Whether a deployment is named, on the command line or by its variable.
    pub fn is_named(&self) -> bool {
        self.queues.as_deref().is_some_and(|text| !text.is_empty()) || std::env::var_os("TASKER_QUEUES").is_some()
    }

    pub async fn open(&self) -> Result<QueueDeployment> {
        let queues = self.queues()?;
        let admin = QueueAdmin::new(Clients::from_env().await.sqs, queues);
        let names = admin.names().await.map_err(|error| failure("list the queues", &error))?;
        if names.is_empty() {
            let prefix = admin.queues().prefix();
            let remedy = "give the --queues of an existing deployment, and its AWS_REGION or AWS_ENDPOINT_URL";
            return Err(CommandError::new(Exit::NotFound, format!("there are no queues of a deployment `{prefix}`: {remedy}")));
        }
        let (dead, working) = names.into_iter().partition(|name| queue_of_dead_letters(name).is_some());
        Ok(QueueDeployment { admin, working, dead })
    }

    fn queues(&self) -> Result<Queues> {
        let example = "http://127.0.0.1:4566/000000000000/tasker-";
        if let Some(beginning) = self.queues.as_deref().filter(|text| !text.is_empty()) {
            return Queues::new(beginning).map_err(|_| {
                let what = "expected the prefix of the queues' URLs, up to the hyphen before a queue's own name";
                CommandError::usage(format!("--queues is wrong: {what}, such as {example}, not `{beginning}`"))
            });
        }
        Queues::from_env().map_err(|error| match error {
            BadSetting::Missing { name, .. } => {
                let what = "the prefix of the URLs of its queues";
                CommandError::usage(format!("no deployment is named: give --queues or {name}, {what}, such as {example}"))
            }
            wrong => wrong.into(),
        })
    }
}

impl QueueDeployment {
    pub fn has(&self, name: &str) -> bool {
        self.working.iter().chain(&self.dead).any(|known| known == name)
    }

    /// The dead-letter queue with a name, which may leave out the deployment's prefix and `-dlq`; all of them without a name. A queue with
    /// a redrive policy is rejected, because reading its messages would use up their receives.
    pub async fn choose(&self, name: Option<&str>) -> Result<Vec<String>> {
        let chosen = if let Some(name) = name { vec![self.find(name)?] } else { self.dead.clone() };
        for queue in &chosen {
            let facts = self.admin.facts(queue).await.map_err(|error| failure(&format!("read {queue}"), &error))?;
            if facts.max_receives.is_some() {
                let why = "has a redrive policy, so reading its messages would use up their receives";
                let message = format!("{queue} {why}: remove the policy, which no dead-letter queue needs");
                return Err(CommandError::new(Exit::Conflict, message));
            }
        }
        Ok(chosen)
    }

    fn find(&self, name: &str) -> Result<String> {
        let prefix = self.admin.queues().prefix();
        let is_meant = |whole: &&String| {
            let bare = queue_of_dead_letters(whole).unwrap_or(whole);
            [whole, bare].into_iter().any(|it| it == name || it.strip_prefix(prefix) == Some(name))
        };
        self.dead.iter().find(is_meant).cloned().ok_or_else(|| {
            let known = self.dead.join(", ");
            let bare = |whole: &'_ String| queue_of_dead_letters(whole).unwrap_or(whole).trim_start_matches(prefix).to_owned();
            let names: Vec<String> = self.dead.iter().map(bare).collect();
            let near = did_you_mean(name, names.iter().map(String::as_str));
            CommandError::new(Exit::NotFound, format!("there is no dead-letter queue `{name}`; there are: {known}{near}"))
        })
    }
}

/// The command's error for a failed call to SQS.
pub fn failure(what: &str, error: &CallError) -> CommandError {
    match error {
        CallError::Refused(why) => CommandError::new(Exit::Error, format!("cannot {what}: {why}")),
        CallError::Unanswered(why) => {
            let remedy = "check AWS_ENDPOINT_URL, AWS_REGION and the credentials (AWS_ACCESS_KEY_ID or AWS_PROFILE)";
            CommandError::new(Exit::Unavailable, format!("cannot {what}, because SQS did not answer: {why}; {remedy}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn deployment() -> QueueDeployment {
        let queues = Queues::new("https://sqs.example/123/shop-").unwrap();
        QueueDeployment {
            admin: QueueAdmin::new(Clients::from_env().await.sqs, queues),
            working: ["shop-intake", "shop-worker-a"].map(str::to_owned).to_vec(),
            dead: ["shop-intake-dlq", "shop-worker-a-dlq"].map(str::to_owned).to_vec(),
        }
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
        let expected =
            "there is no dead-letter queue `worker-b`; there are: shop-intake-dlq, shop-worker-a-dlq; did you mean worker-a?";
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::NotFound, expected));
    }
}
