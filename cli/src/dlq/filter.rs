//! Selects dead letters.

use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use super::dead_letter::DeadLetter;
use crate::error::{CommandError, Result};

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Filters (at least one; a dead letter must match all of them)")]
pub struct Filter {
    /// In this dead-letter queue; alone, it selects the whole queue
    #[arg(short, long, value_name = "NAME")]
    pub queue: Option<String>,
    /// About this task
    #[arg(long, value_name = "ID")]
    task: Option<Uuid>,
    /// About this step, by id or name; only a RunStep contains a name
    #[arg(long, value_name = "ID")]
    step: Option<String>,
    /// Of this namespace; only a RunStep and a task request contain one
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Of one kind and one reason, as shown by `dlq list`
    #[arg(short, long, value_name = "F", value_parser = parse_fingerprint)]
    fingerprint: Option<String>,
    /// First sent longer ago than this, such as 90s, 30m, 1h or 2d
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<Duration>,
    /// With this message id
    #[arg(short, long, value_name = "ID")]
    message: Option<String>,
}

impl Filter {
    /// Rejects a filter without options, which would select everything by mistake.
    pub fn refuse_empty(&self, verb: &str) -> Result {
        if self.queue.is_some() || self.narrows() {
            return Ok(());
        }
        let options = "--queue, --task, --step, --namespace, --fingerprint, --older-than or --message";
        Err(CommandError::usage(format!("no dead letters are selected: give one or more of {options} to {verb} them")))
    }

    pub fn is_whole_queue(&self) -> bool {
        self.queue.is_some() && !self.narrows()
    }

    fn narrows(&self) -> bool {
        let Self { queue: _, task, step, namespace, fingerprint, older_than, message } = self;
        let texts = [step, namespace, fingerprint, message];
        task.is_some() || older_than.is_some() || texts.into_iter().any(Option::is_some)
    }

    /// Whether a dead letter of the queue matches.
    pub fn matches(&self, dead_letter: &DeadLetter) -> bool {
        let is_step = |step: &String| {
            dead_letter.step.as_ref() == Some(step)
                || dead_letter.step_id.is_some_and(|id| step.parse::<Uuid>().is_ok_and(|it| it == id))
        };
        self.task.is_none_or(|task| dead_letter.task_id == Some(task))
            && self.step.as_ref().is_none_or(is_step)
            && self.namespace.as_ref().is_none_or(|namespace| dead_letter.namespace.as_ref() == Some(namespace))
            && self.fingerprint.as_ref().is_none_or(|fingerprint| dead_letter.fingerprint == *fingerprint)
            && self.message.as_ref().is_none_or(|id| dead_letter.message_id == *id)
            && self.older_than.is_none_or(|age| dead_letter.age_seconds.is_some_and(|is| is.unsigned_abs() > age.as_secs()))
    }
}

fn parse_fingerprint(text: &str) -> std::result::Result<String, String> {
    let is_one = text.len() == 8 && text.chars().all(|c| c.is_ascii_hexdigit());
    if is_one { Ok(text.to_ascii_lowercase()) } else { Err("expected eight hexadecimal digits, as shown by `dlq list`".into()) }
}

/// An age such as 90s, 30m, 1h or 2d.
pub fn parse_age(text: &str) -> std::result::Result<Duration, String> {
    let whole = |unit: char, seconds: u64| Some(u64::from(text.strip_suffix(unit)?.parse::<u32>().ok()?) * seconds);
    let seconds = whole('s', 1).or(whole('m', 60)).or(whole('h', 3600)).or(whole('d', 86_400));
    seconds.map(Duration::from_secs).ok_or("expected a whole number and s, m, h or d, such as 90s, 30m, 1h or 2d".into())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use tasker_aws::SqsMessage;

    use super::*;

    const TASK: &str = "01990000-0000-7000-8000-000000000000";
    const STEP: &str = "01990000-0000-7000-8000-000000004000";

    fn dead_letter() -> DeadLetter {
        let body = json!({"step_id": STEP, "step_name": "charge", "handler": {}, "namespace": "shop"}).to_string();
        let message = SqsMessage { id: "m1".into(), body, sent_ms: Some(0), ..SqsMessage::default() };
        DeadLetter::new("q-dlq", &message, Timestamp::from_second(3600).unwrap())
    }

    #[test]
    fn each_filter_takes_what_it_says_and_nothing_else() {
        let dead_letter = dead_letter();
        let text = |text: &str| Some(text.to_owned());
        let none = Filter::default;
        for (takes, other) in [
            (Filter { task: TASK.parse().ok(), ..none() }, Filter { task: STEP.parse().ok(), ..none() }),
            (Filter { step: text("charge"), ..none() }, Filter { step: text("ship"), ..none() }),
            (Filter { step: text(STEP), ..none() }, Filter { step: text(TASK), ..none() }),
            (Filter { namespace: text("shop"), ..none() }, Filter { namespace: text("sho"), ..none() }),
            (
                Filter { fingerprint: text(&dead_letter.fingerprint), ..none() },
                Filter { fingerprint: text("00000000"), ..none() },
            ),
            (Filter { message: text("m1"), ..none() }, Filter { message: text("m"), ..none() }),
            (Filter { older_than: parse_age("59m").ok(), ..none() }, Filter { older_than: parse_age("1h").ok(), ..none() }),
        ] {
            assert!(takes.matches(&dead_letter), "{takes:?}");
            assert!(!other.matches(&dead_letter), "{other:?}");
            assert!(!takes.is_whole_queue() && takes.refuse_empty("redrive").is_ok(), "{takes:?}");
        }
    }

    #[test]
    fn all_that_is_given_must_hold() {
        let both = Filter { step: Some("charge".into()), namespace: Some("bank".into()), ..Filter::default() };
        assert!(!both.matches(&dead_letter()));
    }

    #[test]
    fn nothing_given_is_refused_and_a_queue_alone_means_all_of_it() {
        let failure = Filter::default().refuse_empty("redrive").unwrap_err();
        assert!(failure.message.starts_with("no dead letters are selected: give one or more of --queue"));
        let queue = Filter { queue: Some("q".into()), ..Filter::default() };
        assert!(queue.is_whole_queue() && queue.matches(&dead_letter()) && queue.refuse_empty("purge").is_ok());
    }

    #[test]
    fn an_age_has_a_unit() {
        let seconds = |text: &str| parse_age(text).map(|age| age.as_secs());
        assert_eq!(["90s", "30m", "1h", "2d"].map(|text| seconds(text).unwrap()), [90, 1800, 3600, 172_800]);
        for bad in ["", "1", "h", "-1h", "1.5h", "1w", "1hh", "4294967296s"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
