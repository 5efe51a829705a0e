//! `tasker-ctl dlq show`.

use clap::Args;
use serde_json::{Map, Value, json};
use tasker_aws::{SqsMessage, queue_of_dead_letters};

use super::{
    body,
    dead_letter::DeadLetter,
    look::{Matches, look},
};
use crate::{
    deployment::DeploymentArgs,
    error::{CommandError, Exit, Result},
    output::{self, Format, age, fields, moment},
};

/// Attributes whose values are not confidential.
const SHOWN: &[&str] = &["reason", "source_message_id", "correlation_id", "traceparent"];

#[derive(Debug, Args)]
pub struct DlqShowArgs {
    /// The id of an entry, of a task or of a message, as shown by `dlq list`
    #[arg(value_name = "ID")]
    pub id: String,
    /// The dead-letter queue of a message; by default, all are searched
    #[arg(short, long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Of a message, show the whole body and all attributes; only tokens stay hidden
    #[arg(long)]
    body: bool,
}

pub async fn run(args: &DlqShowArgs, deployment: &DeploymentArgs, format: Format) -> Result {
    let deployment = deployment.open().await?;
    let queues = deployment.choose(args.queue.as_deref()).await?;
    let Matches { dead_letters, remaining } = look(&deployment, &queues, 1, |one| one.message_id == args.id).await?;
    let Some((dead_letter, message)) = dead_letters.into_iter().next() else {
        let unsure = remaining.remark("", " (the search was incomplete: run it again)");
        let what = format!("there is no dead letter {} in {}{unsure}", args.id, queues.join(", "));
        return Err(CommandError::new(Exit::NotFound, format!("{what}; `tasker-ctl dlq list` shows what is there")));
    };
    if format == Format::Json {
        return output::print_json(&document(&dead_letter, &message, args.body).to_string());
    }
    output::print(&view(&dead_letter, &message, args.body))?;
    output::print("")?;
    if !args.body {
        return output::print_json(&body::hidden(&message.body).to_string());
    }
    let text = body::without_tokens(&message.body);
    match serde_json::from_str::<Value>(&text) {
        Ok(_) => output::print_json(&text),
        Err(_) => output::print(&output::line(&text)),
    }
}

fn document(dead_letter: &DeadLetter, message: &SqsMessage, whole: bool) -> Value {
    let mut document = serde_json::to_value(dead_letter).expect("a dead letter serializes");
    let attributes = attributes(message, whole).into_iter().map(|(name, text)| (name, json!(text)));
    document["attributes"] = attributes.collect::<Map<_, _>>().into();
    document["body"] = if whole { json!(body::without_tokens(&message.body)) } else { body::hidden(&message.body) };
    document
}

/// The attributes, sorted by name. Binary values are hidden, and confidential ones unless `whole`.
fn attributes(message: &SqsMessage, whole: bool) -> Vec<(String, String)> {
    let shown = message.attributes.iter().map(|(name, value)| {
        let text = value.string_value().filter(|_| whole || SHOWN.contains(&name.as_str()));
        (name.clone(), text.unwrap_or("hidden").to_owned())
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    shown
}

fn view(dead_letter: &DeadLetter, message: &SqsMessage, whole: bool) -> String {
    let sent = dead_letter.sent_at.map(|at| moment(&at.to_string())).unwrap_or_default();
    let ago = dead_letter.age_seconds.map(|it| format!(", {} ago", age(it))).unwrap_or_default();
    let others = attributes(message, whole).into_iter().filter(|(name, _)| name != tasker_aws::REASON);
    let attributes: Vec<String> = others.map(|(name, text)| format!("{name}={text}")).collect();
    let text = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    fields(&[
        ("message", dead_letter.message_id.clone()),
        ("queue", dead_letter.queue.clone()),
        ("goes back to", queue_of_dead_letters(&dead_letter.queue).unwrap_or_default().to_owned()),
        ("kind", dead_letter.kind.to_owned()),
        ("reason", dead_letter.reason.clone()),
        ("fingerprint", dead_letter.fingerprint.clone()),
        ("task", text(dead_letter.task_id)),
        ("step", dead_letter.step.clone().unwrap_or_default()),
        ("step id", text(dead_letter.step_id)),
        ("namespace", dead_letter.namespace.clone().unwrap_or_default()),
        ("sent", format!("{sent}{ago}")),
        ("receives", format!("about {}, including those by this command", dead_letter.receives)),
        ("attributes", attributes.join(", ")),
    ])
}
