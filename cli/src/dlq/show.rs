//! `tasker-ctl dlq show`.

use clap::Args;
use serde_json::{Map, Value, json};
use tasker_aws::{SqsMessage, queue_of_dead_letters};

use super::{
    body,
    letter::Summary,
    look::{Found, look},
};
use crate::{
    deployment::Which,
    error::{CommandError, Exit, Result},
    output::{self, Format, age, fields, moment},
};

/// Attributes whose values are no contents.
const SHOWN: &[&str] = &["reason", "source_message_id", "correlation_id", "traceparent"];

/// Which letter to show.
#[derive(Debug, Args)]
#[command(after_help = super::JSON)]
pub struct LetterShowArgs {
    /// Its message id, as `dlq list` shows it
    #[arg(value_name = "MESSAGE_ID")]
    message: String,
    /// The dead-letter queue that it is in; without it all are looked through
    #[arg(short, long, value_name = "NAME")]
    queue: Option<String>,
    /// Show the body and all attributes, contents too; only tokens stay hidden
    #[arg(long)]
    body: bool,
}

/// Runs the command.
pub async fn run(which: &LetterShowArgs, deployment: &Which, format: Format) -> Result {
    let deployment = deployment.open().await?;
    let queues = deployment.choose(which.queue.as_deref()).await?;
    let Found { letters, rest } = look(&deployment, &queues, 1, |letter| letter.message_id == which.message).await?;
    let Some((summary, letter)) = letters.into_iter().next() else {
        let unsure = rest.told("", ", as far as was looked (run it again to look further)");
        let what = format!("there is no dead letter {} in {}{unsure}", which.message, queues.join(", "));
        return Err(CommandError::new(Exit::NotFound, format!("{what}; `tasker-ctl dlq list` shows what is there")));
    };
    if format == Format::Json {
        return output::print_json(&document(&summary, &letter, which.body).to_string());
    }
    output::print(&view(&summary, &letter, which.body))?;
    output::print("")?;
    if !which.body {
        return output::print_json(&body::hidden(&letter.body).to_string());
    }
    let text = body::without_tokens(&letter.body);
    match serde_json::from_str::<Value>(&text) {
        Ok(_) => output::print_json(&text),
        Err(_) => output::print(&output::line(&text)),
    }
}

fn document(summary: &Summary, letter: &SqsMessage, whole: bool) -> Value {
    let mut shown = serde_json::to_value(summary).expect("a summary serializes");
    shown["attributes"] =
        attributes(letter, whole).into_iter().map(|(name, text)| (name, json!(text))).collect::<Map<_, _>>().into();
    shown["body"] = if whole { json!(body::without_tokens(&letter.body)) } else { body::hidden(&letter.body) };
    shown
}

/// The attributes by name; what may be contents is hidden, and bytes are.
fn attributes(letter: &SqsMessage, whole: bool) -> Vec<(String, String)> {
    let shown = letter.attributes.iter().map(|(name, value)| {
        let text = value.string_value().filter(|_| whole || SHOWN.contains(&name.as_str()));
        (name.clone(), text.unwrap_or("hidden").to_owned())
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    shown
}

fn view(summary: &Summary, letter: &SqsMessage, whole: bool) -> String {
    let sent = summary.sent_at.map(|at| moment(&at.to_string())).unwrap_or_default();
    let ago = summary.age_seconds.map(|it| format!(", {} ago", age(it))).unwrap_or_default();
    let others = attributes(letter, whole).into_iter().filter(|(name, _)| name != tasker_aws::REASON);
    let attributes: Vec<String> = others.map(|(name, text)| format!("{name}={text}")).collect();
    let text = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    fields(&[
        ("message", summary.message_id.clone()),
        ("queue", summary.queue.clone()),
        ("goes back to", queue_of_dead_letters(&summary.queue).unwrap_or_default().to_owned()),
        ("kind", summary.kind.name().to_owned()),
        ("reason", summary.reason.clone()),
        ("fingerprint", summary.fingerprint.clone()),
        ("task", text(summary.task_id)),
        ("step", summary.step.clone().unwrap_or_default()),
        ("step id", text(summary.step_id)),
        ("namespace", summary.namespace.clone().unwrap_or_default()),
        ("sent", format!("{sent}{ago}")),
        ("receives", format!("about {}, each look at it among them", summary.receives)),
        ("attributes", attributes.join(", ")),
    ])
}
