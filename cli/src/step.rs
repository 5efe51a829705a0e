//! `tasker-ctl step …`: operator actions on one step.

use clap::{Args, Subcommand};
use reqwest::Method;
use tasker_domain::did_you_mean;
use tasker_wire::rest::{ActionBody, StepResponse};
use uuid::Uuid;

use crate::{
    action::{self, ActionArgs},
    client::Client,
    error::{CommandError, Exit, Result},
    input::JsonSource,
    output::{self, Format},
    task::steps_path,
};

#[derive(Debug, Subcommand)]
pub enum StepCommand {
    /// Retry a step that failed, waits for a retry or was cancelled, with its attempts reset
    Retry {
        #[command(flatten)]
        step: StepArgs,
        #[command(flatten)]
        inputs: InputsArgs,
    },
    /// Set back a step and everything after it, and run them again
    Redo {
        #[command(flatten)]
        step: StepArgs,
        #[command(flatten)]
        inputs: InputsArgs,
    },
    /// Resolve a step manually, with a result that its children receive, or without one
    Resolve {
        #[command(flatten)]
        step: StepArgs,
        /// The result: JSON, @FILE, or - for stdin
        #[arg(long, value_name = "JSON")]
        result: Option<JsonSource>,
        /// Use the result of a success under this lease, which came too late
        #[arg(long, value_name = "LEASE", conflicts_with = "result", value_parser = clap::value_parser!(i32).range(1..))]
        result_of_lease: Option<i32>,
    },
    /// Resolve a step without a result. A decision or a batch makes nothing then
    Skip(StepArgs),
    /// Write a line to the audit log of a step
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
pub struct InputsArgs {
    /// The step's own inputs from now on, and its checkpoint dropped: a JSON object, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    inputs: Option<JsonSource>,
}

pub async fn run(command: &StepCommand, client: &Client, format: Format) -> Result {
    let (step, body) = match command {
        StepCommand::Retry { step, inputs } => (step, with_inputs(step.action.body("retry"), inputs)?),
        StepCommand::Redo { step, inputs } => (step, with_inputs(step.action.body("redo"), inputs)?),
        StepCommand::Resolve { step, result, result_of_lease } => {
            let result = result.as_ref().map(|source| source.read("--result")).transpose()?;
            (step, ActionBody { result, result_of_lease: *result_of_lease, ..step.action.body("resolve") })
        }
        StepCommand::Skip(step) => (step, step.action.body("skip")),
        StepCommand::Note(step) => (step, step.action.body("note")),
    };
    let mut path = steps_path(step.task).to_vec();
    path.extend([id_of(step, client).await?, "actions".to_owned()]);
    let response = client.send(Method::POST, &path, &body).await?;
    action::print(&response, format, &format!("step {}", output::line(&step.step)))
}

fn with_inputs(body: ActionBody, InputsArgs { inputs }: &InputsArgs) -> Result<ActionBody> {
    let inputs = inputs.as_ref().map(|source| source.read("--inputs")).transpose()?;
    Ok(ActionBody { inputs, ..body })
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
