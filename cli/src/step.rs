//! `tasker-ctl step …`: operator actions on one step.

use clap::{Args, Subcommand};
use reqwest::Method;
use tasker_domain::did_you_mean;
use tasker_wire::rest::{CompletionData, StepManualAction, StepResponse};
use uuid::Uuid;

use crate::{
    client::Client,
    error::{CommandError, Exit, Result},
    input::{JsonSource, default_actor},
    output::{self, Format},
    task::steps_path,
};

#[derive(Debug, Subcommand)]
pub enum StepCommand {
    /// Retry a failed step, with its attempts reset
    Retry(StepArgs),
    /// Resolve a step manually, with a result that its children receive, or without one
    Resolve {
        #[command(flatten)]
        step: StepArgs,
        /// The result: JSON, @FILE, or - for stdin
        #[arg(long, value_name = "JSON")]
        result: Option<JsonSource>,
    },
}

#[derive(Debug, Args)]
pub struct StepArgs {
    /// The task's id
    task: Uuid,
    /// The step's name or id
    step: String,
    /// The reason, for the audit log
    #[arg(short, long)]
    reason: String,
    /// Who acts, for the audit log
    #[arg(short = 'b', long, visible_alias = "by", default_value_t = default_actor())]
    actor: String,
}

pub async fn run(command: &StepCommand, client: &Client, format: Format) -> Result {
    let (StepCommand::Retry(step) | StepCommand::Resolve { step, .. }) = command;
    let (reason, actor) = (step.reason.clone(), step.actor.clone());
    let action = match command {
        StepCommand::Retry(_) => StepManualAction::ResetForRetry { reason, reset_by: actor },
        StepCommand::Resolve { result: None, .. } => StepManualAction::ResolveManually { reason, resolved_by: actor },
        StepCommand::Resolve { result: Some(source), .. } => {
            let completion_data = CompletionData { result: source.read("--result")?, metadata: None };
            StepManualAction::CompleteManually { completion_data, reason, completed_by: actor }
        }
    };
    let mut path = steps_path(step.task).to_vec();
    path.push(id_of(step, client).await?);
    let response = client.send(Method::PATCH, &path, &action).await?;
    let view = |step: &StepResponse| format!("step {} is {}", output::line(&step.name), step.current_state);
    output::print_response(&response, format, view)
}

/// The step's id, because the API identifies steps by id and people by name.
async fn id_of(args: &StepArgs, client: &Client) -> Result<String> {
    if let Ok(id) = args.step.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let steps: Vec<StepResponse> = client.get(&steps_path(args.task), &()).await?.read()?;
    if let Some(step) = steps.iter().find(|step| step.name == args.step) {
        return Ok(step.step_uuid.to_string());
    }
    let names: Vec<String> = steps.iter().take(20).map(|step| output::line(&step.name)).collect();
    let near = did_you_mean(&args.step, steps.iter().map(|step| step.name.as_str()));
    let message = format!(
        "task {} has no step `{}`; it has {}{}",
        args.task,
        output::line(&args.step),
        names.join(", "),
        output::line(&near)
    );
    Err(CommandError::new(Exit::NotFound, message))
}
