//! The URLs of the queues. All queues of a deployment share one prefix, so one setting locates them, and a new pool needs no setting.

use tasker_process::settings::{BadSetting, required};
use tasker_queue::Outgoing;

const NAME: &str = "TASKER_QUEUES";
/// Characters of a queue's name: the maximum of SQS.
const NAME_CHARS: usize = 80;
/// The suffix of a dead-letter queue's name.
const DEAD_LETTERS: &str = "-dlq";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To the workers of this pool.
    Worker(String),
    /// Outcomes from workers.
    Completions,
    /// Wake-ups for due retries.
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

/// The common prefix of the queues' URLs, such as `https://sqs.eu-central-1.amazonaws.com/123456789012/tasker-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// With the last slash.
    folder: String,
    prefix: String,
}

impl Queues {
    /// Reads `TASKER_QUEUES`.
    pub fn from_env() -> Result<Self, BadSetting> {
        Self::new(&required(
            NAME,
            "the prefix of the URLs of the deployment's queues, up to the hyphen before a queue's own name",
        )?)
    }

    pub fn new(url_prefix: &str) -> Result<Self, BadSetting> {
        // Without the value, which may contain a login.
        let wrong = || BadSetting::wrong(NAME, "expected a URL such as https://…/123456789012/tasker-");
        let (folder, prefix) = url_prefix.rsplit_once('/').ok_or_else(wrong)?;
        let is_url = folder.starts_with("https://") || folder.starts_with("http://");
        if !is_url || !is_name(prefix) || !prefix.ends_with('-') {
            return Err(wrong());
        }
        Ok(Self { folder: format!("{folder}/"), prefix: prefix.to_owned() })
    }

    /// The URL of a queue. `None` if the pool's name is not valid in a queue name.
    pub fn url(&self, to: &Destination) -> Option<String> {
        let name = match to {
            Destination::Worker(pool) => format!("{}worker-{pool}", self.prefix),
            Destination::Completions => format!("{}completions", self.prefix),
            Destination::Readiness => format!("{}readiness", self.prefix),
        };
        self.url_of_name(&name)
    }

    /// The URL of a queue by its full name.
    pub fn url_of_name(&self, name: &str) -> Option<String> {
        is_name(name).then(|| format!("{}{name}", self.folder))
    }

    pub fn url_of_arn(&self, arn: &str) -> Option<String> {
        self.url_of_name(arn.rsplit(':').next()?)
    }

    /// Whether a name is that of a queue of this deployment or of its dead-letter queue. The prefix does not suffice: `tasker-` is also a
    /// prefix of another deployment's `tasker-test-intake`.
    pub fn has(&self, name: &str) -> bool {
        let Some(own) = name.strip_prefix(&self.prefix) else { return false };
        let own = own.strip_suffix(DEAD_LETTERS).unwrap_or(own);
        matches!(own, "intake" | "readiness" | "completions") || own.strip_prefix("worker-").is_some_and(|pool| !pool.is_empty())
    }

    /// The prefix of the queues' names, such as `tasker-`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

/// The URL or name of the dead-letter queue of a queue.
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}{DEAD_LETTERS}")
}

/// The name of the queue that a dead-letter queue belongs to. `None` if the name is not that of a dead-letter queue.
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
    fn queues_of_a_deployment_with_a_longer_prefix_are_not_ours() {
        let queues = Queues::new("https://sqs.example/123/shop-").unwrap();
        let ours = ["shop-intake", "shop-intake-dlq", "shop-worker-python", "shop-worker-python-dlq"];
        assert!(ours.iter().all(|name| queues.has(name)));
        let others = ["shop-test-intake", "shop-test-worker-python-dlq", "shop-worker-", "shop-dlq", "intake", "shop-"];
        assert!(!others.iter().any(|name| queues.has(name)));
        assert_eq!(queue_of_dead_letters("shop-intake-dlq"), Some("shop-intake"));
        assert_eq!(queue_of_dead_letters("shop-intake"), None);
    }

    #[test]
    fn a_malformed_queue_prefix_is_rejected() {
        for text in ["", "tasker-", "ftp://x/tasker-", "https://x/tasker", "https://x/", "https://x/a b-"] {
            let error = Queues::new(text).unwrap_err().to_string();
            assert!(error.starts_with("TASKER_QUEUES is wrong"), "{error}");
            assert!(text.is_empty() || text == "tasker-" || !error.contains(text), "{error}");
        }
    }
}
