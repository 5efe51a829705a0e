//! `tasker-ctl step …`: operator actions on one step.

use clap::{Args, Subcommand};
use tasker_domain::did_you_mean;
use tasker_wire::rest::StepResponse;
use uuid::Uuid;

use crate::{
    action::{ActionArgs, Given, act},
    client::Client,
    error::{CommandError, Exit, Result},
    input::JsonSource,
    output::{self, Format},
    task::steps_path,
};

#[derive(Debug, Subcommand)]
pub enum StepCommand {
    /// Retry a step that failed, waits for a retry or was cancelled, with its attempts reset
    Retry(AgainArgs),
    /// Set back a step and everything after it, and run them again
    Redo(AgainArgs),
    /// Resolve a step manually, with a result that its children receive, or without one
    Resolve {
        #[command(flatten)]
        step: StepArgs,
        /// The result: JSON, @FILE, or - for stdin
        #[arg(long, value_name = "JSON")]
        result: Option<JsonSource>,
    },
    /// Resolve a step without a result. A decision or a batch makes nothing then
    Skip(StepArgs),
    /// Write a line to the audit log
    Note(StepArgs),
}

#[derive(Debug, Args)]
pub struct StepArgs {
    /// The task's id
    task: Uuid,
    /// The step's name or id
    step: String,
    #[command(flatten)]
    action: ActionArgs,
}

#[derive(Debug, Args)]
pub struct AgainArgs {
    #[command(flatten)]
    step: StepArgs,
    /// New inputs of the step, which its handler sees before the task's context: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    inputs: Option<JsonSource>,
}

pub async fn run(command: &StepCommand, client: &Client, format: Format) -> Result {
    let read = |source: &Option<JsonSource>, option| source.as_ref().map(|source| source.read(option)).transpose();
    let (action, step, given) = match command {
        StepCommand::Retry(again) => {
            ("retry", &again.step, Given { inputs: read(&again.inputs, "--inputs")?, ..Given::default() })
        }
        StepCommand::Redo(again) => ("redo", &again.step, Given { inputs: read(&again.inputs, "--inputs")?, ..Given::default() }),
        StepCommand::Resolve { step, result } => {
            ("resolve", step, Given { result: read(result, "--result")?, ..Given::default() })
        }
        StepCommand::Skip(step) => ("skip", step, Given::default()),
        StepCommand::Note(step) => ("note", step, Given::default()),
    };
    let mut path = steps_path(step.task).to_vec();
    path.push(id_of(step, client).await?);
    act(client, &path, action, &step.action, given, format).await
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
