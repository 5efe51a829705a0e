//! `tasker-ctl dlq list`.

use clap::Args;
use serde_json::json;
use tasker_wire::limits;

use super::{
    dead_letter::DeadLetter,
    look::{Matches, Remaining, look},
};
use crate::{
    deployment::DeploymentArgs,
    error::Result,
    output::{self, Format, age, counted, shortened, table},
};

/// Characters of a reason in a row.
const REASON: usize = 100;

#[derive(Debug, Args)]
pub struct DlqListArgs {
    /// Only messages of this dead-letter queue
    #[arg(short, long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Show at most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max: u32,
}

pub async fn run(args: &DlqListArgs, deployment: &DeploymentArgs, format: Format) -> Result {
    let deployment = deployment.open().await?;
    let queues = deployment.choose(args.queue.as_deref()).await?;
    let Matches { dead_letters, remaining } = look(&deployment, &queues, args.max as usize, |_| true).await?;
    let dead_letters: Vec<DeadLetter> = dead_letters.into_iter().map(|(dead_letter, _)| dead_letter).collect();
    match format {
        Format::Json => {
            let mut document = json!({ "dead_letters": dead_letters });
            remaining.add_to(&mut document);
            output::print_json(&document.to_string())
        }
        Format::Table if dead_letters.is_empty() => {
            let maybe = remaining.remark("", "; the search was incomplete: run it again");
            output::print(&format!("no dead letters in {}{maybe}", queues.join(", ")))
        }
        Format::Table => output::print(&format!("{}\n\n{}", rows(&dead_letters), total(dead_letters.len(), remaining))),
    }
}

pub fn rows(dead_letters: &[DeadLetter]) -> String {
    let row = |dead_letter: &DeadLetter| {
        vec![
            dead_letter.queue.clone(),
            dead_letter.message_id.clone(),
            dead_letter.kind.to_owned(),
            dead_letter.task_id.map(|id| id.to_string()).unwrap_or_default(),
            shortened(&dead_letter.step_shown(), limits::NAME_CHARS),
            dead_letter.age_seconds.map(age).unwrap_or_default(),
            dead_letter.fingerprint.clone(),
            shortened(&dead_letter.reason, REASON),
        ]
    };
    table(&["QUEUE", "MESSAGE", "KIND", "TASK", "STEP", "AGE", "FINGERPRINT", "REASON"], dead_letters.iter().map(row))
}

fn total(count: usize, remaining: Remaining) -> String {
    let more = remaining.remark("; there are more: give a larger --max, or a --queue", "; there may be more: run it again");
    format!("{}{more}", counted(count, "dead letter"))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tasker_aws::{REASON, SqsMessage};

    use super::*;

    #[test]
    fn a_hostile_dead_letter_stays_in_its_row() {
        let body = r#"{"step_name": "a\u001b[2J\nb", "handler": 1}"#.to_owned();
        let message =
            SqsMessage { id: "m".into(), body, sent_ms: Some(0), ..SqsMessage::default() }.with(REASON, "no\u{9b}\nway");
        let shown = rows(&[DeadLetter::new("q-dlq", &message, Timestamp::from_second(7260).unwrap())]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("2 h 01 min") && !shown.contains(['\u{1b}', '\u{9b}']), "{shown:?}");
    }

    #[test]
    fn the_output_says_whether_more_dead_letters_match_or_may_match() {
        assert_eq!(total(1, Remaining::default()), "1 dead letter");
        let cut = Remaining { more: false, cut_short: true };
        assert_eq!(total(2, cut), "2 dead letters; there may be more: run it again");
        assert!(total(2, Remaining { more: true, ..cut }).starts_with("2 dead letters; there are more: give"));
        let mut shown = json!({});
        cut.add_to(&mut shown);
        assert_eq!(shown, json!({"more": true, "cut_short": true}));
    }
}
