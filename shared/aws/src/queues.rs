//! Where the queues are: all of a deployment's have one beginning, so one setting names them and a new pool changes nobody's.

use tasker_process::settings::{BadSetting, required};
use tasker_queue::Outgoing;

const NAME: &str = "TASKER_QUEUES";
/// Characters of a queue's name that SQS takes.
const NAME_CHARS: usize = 80;
/// What the names of dead-letter queues end in.
const DEAD_LETTERS: &str = "-dlq";

/// A queue of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The workers of a pool.
    Worker(String),
    /// What workers say of steps.
    Completions,
    /// What time makes ready.
    Readiness,
}

impl From<&Outgoing> for Destination {
    fn from(outgoing: &Outgoing) -> Self {
        match outgoing {
            Outgoing::RunStep { pool, .. } => Self::Worker(pool.clone()),
            Outgoing::CompleteStep(_) => Self::Completions,
            Outgoing::Evaluate { .. } => Self::Readiness,
        }
    }
}

/// What the URLs of all queues of a deployment begin with, as `https://sqs.eu-central-1.amazonaws.com/123456789012/tasker-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// Up to and with the last slash.
    folder: String,
    /// What the names begin with.
    prefix: String,
}

impl Queues {
    /// By `TASKER_QUEUES`.
    pub fn from_env() -> Result<Self, BadSetting> {
        Self::new(&required(
            NAME,
            "what the URLs of the deployment's queues begin with, up to the hyphen before a queue's own name",
        )?)
    }

    /// By what their URLs begin with.
    pub fn new(beginning: &str) -> Result<Self, BadSetting> {
        // Without the value, which may hold a login.
        let wrong = || BadSetting::wrong(NAME, "expected a URL such as https://…/123456789012/tasker-");
        let (folder, prefix) = beginning.rsplit_once('/').ok_or_else(wrong)?;
        let is_url = folder.starts_with("https://") || folder.starts_with("http://");
        if !is_url || !is_name(prefix) || !prefix.ends_with('-') {
            return Err(wrong());
        }
        Ok(Self { folder: format!("{folder}/"), prefix: prefix.to_owned() })
    }

    /// The URL of a queue of the deployment; none when there can be no such queue, because of the pool's name.
    pub fn url(&self, to: &Destination) -> Option<String> {
        let name = match to {
            Destination::Worker(pool) => format!("{}worker-{pool}", self.prefix),
            Destination::Completions => format!("{}completions", self.prefix),
            Destination::Readiness => format!("{}readiness", self.prefix),
        };
        self.url_of_name(&name)
    }

    /// The URL of a queue by its whole name.
    pub fn url_of_name(&self, name: &str) -> Option<String> {
        is_name(name).then(|| format!("{}{name}", self.folder))
    }

    /// The URL of the queue that an event came from, by its ARN.
    pub fn url_of_arn(&self, arn: &str) -> Option<String> {
        self.url_of_name(arn.rsplit(':').next()?)
    }

    /// Whether a queue of this name is one of the deployment's, or the dead-letter queue of one. The beginning alone does not say so:
    /// what is `tasker-` here is also the beginning of another deployment's `tasker-test-intake`.
    pub fn has(&self, name: &str) -> bool {
        let Some(own) = name.strip_prefix(&self.prefix) else { return false };
        let own = own.strip_suffix(DEAD_LETTERS).unwrap_or(own);
        matches!(own, "intake" | "readiness" | "completions") || own.strip_prefix("worker-").is_some_and(|pool| !pool.is_empty())
    }

    /// What the names of the deployment's queues begin with, as `tasker-`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The URL or name of a queue's dead-letter queue.
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}{DEAD_LETTERS}")
}

/// The name of the queue that a dead-letter queue, by its name, belongs to; none when it is no dead-letter queue.
pub fn queue_of_dead_letters(dead_letter_queue: &str) -> Option<&str> {
    dead_letter_queue.strip_suffix(DEAD_LETTERS)
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    !name.is_empty() && name.len() <= NAME_CHARS && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_setting_names_every_queue_of_a_deployment() {
        let queues = Queues::new("https://sqs.example/123/shop-").unwrap();
        let url = |to| queues.url(&to);
        assert_eq!(url(Destination::Completions).unwrap(), "https://sqs.example/123/shop-completions");
        assert_eq!(url(Destination::Worker("python".into())).unwrap(), "https://sqs.example/123/shop-worker-python");
        assert_eq!(queues.url_of_arn("arn:aws:sqs:eu:123:shop-intake").unwrap(), "https://sqs.example/123/shop-intake");
        assert_eq!(url(Destination::Worker("a pool".into())), None, "no queue can be called so");
        assert_eq!(url(Destination::Worker("x".repeat(80))), None);
    }

    #[test]
    fn another_deployment_with_the_same_beginning_is_none_of_ours() {
        let queues = Queues::new("https://sqs.example/123/shop-").unwrap();
        let ours = ["shop-intake", "shop-intake-dlq", "shop-worker-python", "shop-worker-python-dlq"];
        assert!(ours.iter().all(|name| queues.has(name)));
        let others = ["shop-test-intake", "shop-test-worker-python-dlq", "shop-worker-", "shop-dlq", "intake", "shop-"];
        assert!(!others.iter().any(|name| queues.has(name)));
        assert_eq!(queue_of_dead_letters("shop-intake-dlq"), Some("shop-intake"));
        assert_eq!(queue_of_dead_letters("shop-intake"), None);
    }

    #[test]
    fn what_names_no_queues_is_refused() {
        for text in ["", "tasker-", "ftp://x/tasker-", "https://x/tasker", "https://x/", "https://x/a b-"] {
            let error = Queues::new(text).unwrap_err().to_string();
            assert!(error.starts_with("TASKER_QUEUES is wrong"), "{error}");
            assert!(text.is_empty() || text == "tasker-" || !error.contains(text), "{error}");
        }
    }
}
