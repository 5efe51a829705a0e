//! `tasker-ctl step …`: what an operator does to one step.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    client::Client,
    failure::{Exit, Failure, Result},
    input::{JsonSource, default_actor},
    output::{self, Format},
    task::{model::Step, steps_path},
};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum StepCommand {
    /// Try a failed step again, with all its tries anew
    Retry(Which),
    /// Settle a step by hand, with a result that its children see, or without
    Resolve(Resolve),
}

/// A step, and who does what to it why.
#[derive(Debug, Args)]
pub struct Which {
    /// The task's id
    task: Uuid,
    /// The step's name or id
    step: String,
    /// Why, for the audit log
    #[arg(short, long)]
    reason: String,
    /// Who, for the audit log
    #[arg(short = 'b', long, visible_alias = "by", default_value_t = default_actor())]
    actor: String,
}

/// A step and what came of it.
#[derive(Debug, Args)]
pub struct Resolve {
    #[command(flatten)]
    which: Which,
    /// The result: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    result: Option<JsonSource>,
}

/// An action as the API takes it.
#[derive(Serialize)]
#[serde(tag = "action_type", rename_all = "snake_case")]
enum Action<'a> {
    ResetForRetry { reason: &'a str, reset_by: &'a str },
    ResolveManually { reason: &'a str, resolved_by: &'a str },
    CompleteManually { completion_data: Completion<'a>, reason: &'a str, completed_by: &'a str },
}

#[derive(Serialize)]
struct Completion<'a> {
    result: &'a RawValue,
}

/// Runs one of the commands.
pub async fn run(command: &StepCommand, client: &Client, format: Format) -> Result {
    match command {
        StepCommand::Retry(which) => {
            act(which, &Action::ResetForRetry { reason: &which.reason, reset_by: &which.actor }, client, format).await
        }
        StepCommand::Resolve(Resolve { which, result: None }) => {
            act(which, &Action::ResolveManually { reason: &which.reason, resolved_by: &which.actor }, client, format).await
        }
        StepCommand::Resolve(Resolve { which, result: Some(source) }) => {
            let result = source.read("--result")?;
            let completion_data = Completion { result: &result };
            act(
                which,
                &Action::CompleteManually { completion_data, reason: &which.reason, completed_by: &which.actor },
                client,
                format,
            )
            .await
        }
    }
}

async fn act(which: &Which, action: &Action<'_>, client: &Client, format: Format) -> Result {
    let step = id_of(which, client).await?;
    let mut path = steps_path(which.task).to_vec();
    path.push(step);
    let answer = client.send(Method::PATCH, &path, action).await?;
    if format == Format::Json {
        return output::print_json(&answer.text);
    }
    let step: Step = answer.read()?;
    output::print(&format!("step {} is {}", output::line(&step.name), step.current_state))
}

/// The step's id. The API knows steps by their ids; people know them by their names.
async fn id_of(which: &Which, client: &Client) -> Result<String> {
    if let Ok(id) = which.step.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let steps: Vec<Step> = client.get(&steps_path(which.task), &()).await?.read()?;
    if let Some(step) = steps.iter().find(|step| step.name == which.step) {
        return Ok(step.step_uuid.clone());
    }
    let names: Vec<String> = steps.iter().take(20).map(|step| output::line(&step.name)).collect();
    let message = format!("task {} has no step `{}`; it has {}", which.task, output::line(&which.step), names.join(", "));
    Err(Failure::new(Exit::NotFound, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_written_as_the_api_reads_them() {
        let result = RawValue::from_string(r#"{"n":1.50}"#.into()).unwrap();
        let actions = [
            Action::ResetForRetry { reason: "db is back", reset_by: "me" },
            Action::ResolveManually { reason: "not critical", resolved_by: "me" },
            Action::CompleteManually { completion_data: Completion { result: &result }, reason: "checked", completed_by: "me" },
        ];
        assert_eq!(
            actions.map(|action| serde_json::to_string(&action).unwrap()),
            [
                r#"{"action_type":"reset_for_retry","reason":"db is back","reset_by":"me"}"#,
                r#"{"action_type":"resolve_manually","reason":"not critical","resolved_by":"me"}"#,
                r#"{"action_type":"complete_manually","completion_data":{"result":{"n":1.50}},"reason":"checked","completed_by":"me"}"#,
            ]
        );
    }
}
