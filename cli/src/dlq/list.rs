//! `tasker-ctl dlq list`.

use clap::Args;
use serde_json::json;

use super::{
    letter::Summary,
    look::{Found, Rest, look},
};
use crate::{
    deployment::Which,
    error::Result,
    output::{self, Format, age, shortened, table},
};

/// Characters of a reason in a row.
const REASON: usize = 100;

/// Which letters to list.
#[derive(Debug, Args)]
#[command(after_help = super::JSON)]
pub struct LetterListArgs {
    /// Only those of this dead-letter queue
    #[arg(short, long, value_name = "NAME")]
    queue: Option<String>,
    /// Letters that are shown
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max: u32,
}

/// Runs the command.
pub async fn run(which: &LetterListArgs, deployment: &Which, format: Format) -> Result {
    let deployment = deployment.open().await?;
    let queues = deployment.choose(which.queue.as_deref()).await?;
    let Found { letters, rest } = look(&deployment, &queues, which.max as usize, |_| true).await?;
    let letters: Vec<Summary> = letters.into_iter().map(|(summary, _)| summary).collect();
    match format {
        Format::Json => {
            let mut shown = json!({ "letters": letters });
            rest.tell(&mut shown);
            output::print_json(&shown.to_string())
        }
        Format::Table if letters.is_empty() => {
            let maybe = rest.told("", "; there may be some that were not seen: run it again");
            output::print(&format!("no dead letters in {}{maybe}", queues.join(", ")))
        }
        Format::Table => output::print(&format!("{}\n\n{}", rows(&letters), tally(letters.len(), rest))),
    }
}

/// A row a letter.
pub fn rows(letters: &[Summary]) -> String {
    let row = |letter: &Summary| {
        vec![
            letter.queue.clone(),
            letter.message_id.clone(),
            letter.kind.name().to_owned(),
            letter.task_id.map(|id| id.to_string()).unwrap_or_default(),
            shortened(&letter.step_shown(), 40),
            letter.age_seconds.map(age).unwrap_or_default(),
            letter.fingerprint.clone(),
            shortened(&letter.reason, REASON),
        ]
    };
    table(&["QUEUE", "MESSAGE", "KIND", "TASK", "STEP", "AGE", "FINGERPRINT", "REASON"], letters.iter().map(row))
}

/// `3 letters`, and how to see the others.
fn tally(count: usize, rest: Rest) -> String {
    let plural = if count == 1 { "" } else { "s" };
    let more = rest.told("; there are more: give a larger --max, or a --queue", "; there may be more: run it again");
    format!("{count} letter{plural}{more}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tasker_aws::{REASON, SqsMessage};

    use super::*;

    #[test]
    fn a_hostile_letter_stays_in_its_row() {
        let body = r#"{"step_name": "a\u001b[2J\nb", "handler": 1}"#.to_owned();
        let letter = SqsMessage { id: "m".into(), body, sent_ms: Some(0), ..SqsMessage::default() }.with(REASON, "no\u{9b}\nway");
        let shown = rows(&[Summary::of("q-dlq", &letter, Timestamp::from_second(7260).unwrap())]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("2 h 01 min") && !shown.contains(['\u{1b}', '\u{9b}']), "{shown:?}");
    }

    #[test]
    fn what_was_not_shown_or_perhaps_not_seen_is_told() {
        assert_eq!(tally(1, Rest::default()), "1 letter");
        let cut = Rest { more: false, cut_short: true };
        assert_eq!(tally(2, cut), "2 letters; there may be more: run it again");
        assert!(tally(2, Rest { more: true, ..cut }).starts_with("2 letters; there are more: give"));
        let mut shown = json!({});
        cut.tell(&mut shown);
        assert_eq!(shown, json!({"more": true, "cut_short": true}));
    }
}
