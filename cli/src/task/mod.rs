//! `tasker-ctl task …`: submit, show, wait for and operate tasks.

mod explain;
mod list;
mod view;
mod wait;

use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use tasker_wire::rest::{StepResponse, SubmitTask, TaskResponse};
use uuid::Uuid;

use crate::{
    action::{self, ActionArgs},
    client::{ApiResponse, Client},
    error::Result,
    input::JsonSource,
    output::{self, Format},
};

#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Submit a task
    Create(Box<CreateTaskArgs>),
    /// Show a task: its steps, attempts and errors
    Get(TaskArgs),
    /// Say why the steps of a task that are not done do not run, or what they do, and what helps
    Explain(TaskArgs),
    /// List tasks, newest first
    List(list::TaskListArgs),
    /// Cancel a task that is not finished
    Cancel(TaskActionArgs),
    /// Give the cancelled steps of a task a new budget, and go on
    Reopen(TaskActionArgs),
    /// End a failed task without changing its steps
    Resolve(TaskActionArgs),
    /// Hold the steps of a task that become ready, until it is resumed
    Pause(TaskActionArgs),
    /// End the pause of a task: what it held goes on
    Resume(TaskActionArgs),
    /// Write a line to the audit log of a task
    Note(TaskActionArgs),
    /// List all steps of a task
    Steps(TaskArgs),
    /// Wait until a task is finished
    Wait {
        /// The task's id
        task: Uuid,
        /// Give up after so many seconds; by default, wait indefinitely
        #[arg(short, long, value_name = "SECONDS", default_value = wait::INDEFINITELY, hide_default_value = true,
              value_parser = wait::parse_limit)]
        timeout: Duration,
    },
}

#[derive(Debug, Args)]
pub struct TaskArgs {
    /// The task's id
    task: Uuid,
}

#[derive(Debug, Args)]
pub struct TaskActionArgs {
    /// The task's id
    task: Uuid,
    #[command(flatten)]
    action: ActionArgs,
}

#[derive(Debug, Args)]
pub struct CreateTaskArgs {
    /// The template's name
    #[arg(long)]
    name: String,
    /// The template's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The template's version; the highest one by default
    #[arg(short, long)]
    version: Option<String>,
    /// The task's context: JSON, @FILE, or - for stdin
    #[arg(short = 'i', long, visible_alias = "input", value_name = "JSON", default_value = "{}")]
    context: JsonSource,
    /// An idempotency key: a second task with the same key is rejected
    #[arg(long, visible_alias = "idempotency-key")]
    key: Option<String>,
    /// A tag. May be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// A number that is stored with the task
    #[arg(short, long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// The id that all logs and messages of the task carry; random by default
    #[arg(short, long, value_name = "UUID")]
    correlation_id: Option<Uuid>,
    /// Who submits the task
    #[arg(long, default_value = "tasker-ctl")]
    initiator: String,
    /// Why it is submitted
    #[arg(short = 'd', long, visible_alias = "description", default_value = "CLI task creation")]
    reason: String,
    /// Wait until the task is finished; --wait=60 waits at most 60 seconds. Its id is on stderr before the wait
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = wait::INDEFINITELY,
          value_parser = wait::parse_limit)]
    wait: Option<Duration>,
}

pub async fn run(command: &TaskCommand, client: &Client, format: Format) -> Result {
    match command {
        TaskCommand::Create(args) => create(args, client, format).await,
        TaskCommand::Get(TaskArgs { task }) => show(client.get(&path(*task), &()).await?, client, format).await,
        TaskCommand::Explain(TaskArgs { task }) => {
            let path: Vec<String> = path(*task).into_iter().chain(["explain".to_owned()]).collect();
            output::print_response(&client.get(&path, &()).await?, format, explain::view)
        }
        TaskCommand::List(args) => list::run(args, client, format).await,
        TaskCommand::Cancel(args) => act("cancel", args, client, format).await,
        TaskCommand::Reopen(args) => act("reopen", args, client, format).await,
        TaskCommand::Resolve(args) => act("resolve", args, client, format).await,
        TaskCommand::Pause(args) => act("pause", args, client, format).await,
        TaskCommand::Resume(args) => act("resume", args, client, format).await,
        TaskCommand::Note(args) => act("note", args, client, format).await,
        TaskCommand::Steps(TaskArgs { task }) => {
            let response = client.get(&steps_path(*task), &()).await?;
            output::print_response(&response, format, |steps: &Vec<StepResponse>| view::steps(steps))
        }
        TaskCommand::Wait { task, timeout } => await_end(*task, *timeout, client, format).await,
    }
}

async fn act(word: &str, TaskActionArgs { task, action }: &TaskActionArgs, client: &Client, format: Format) -> Result {
    let path: Vec<String> = path(*task).into_iter().chain(["actions".to_owned()]).collect();
    let response = client.send(Method::POST, &path, &action.body(word)).await?;
    action::print(&response, format, &format!("task {task}"))
}

async fn create(args: &CreateTaskArgs, client: &Client, format: Format) -> Result {
    let body = SubmitTask {
        name: args.name.clone(),
        namespace: Some(args.namespace.clone()),
        version: args.version.clone(),
        context: Some(args.context.read("--context")?),
        initiator: Some(args.initiator.clone()),
        source_system: Some("cli".into()),
        reason: Some(args.reason.clone()),
        tags: args.tags.clone(),
        priority: args.priority,
        correlation_id: args.correlation_id,
        parent_correlation_id: None,
        idempotency_key: args.key.clone(),
    };
    let response = client.send(Method::POST, &["v1", "tasks"], &body).await?;
    let task: TaskResponse = response.read()?;
    let Some(limit) = args.wait else { return output::print_response(&response, format, view::created) };
    output::announce(&json!({ "task_uuid": task.task_uuid }), format, || view::created(&task));
    await_end(task.task_uuid, limit, client, format).await
}

async fn await_end(task: Uuid, limit: Duration, client: &Client, format: Format) -> Result {
    let response = wait::until_finished(task, limit, client).await?;
    let ended: TaskResponse = response.read()?;
    show(response, client, format).await?;
    wait::verdict(&ended)
}

async fn show(response: ApiResponse, client: &Client, format: Format) -> Result {
    if format == Format::Json {
        return output::print_json(&response.text);
    }
    let task: TaskResponse = response.read()?;
    let steps: Vec<StepResponse> = client.get(&steps_path(task.task_uuid), &()).await?.read()?;
    output::print(&view::task(&task, &steps))
}

fn path(task: Uuid) -> [String; 3] {
    ["v1".into(), "tasks".into(), task.to_string()]
}

pub fn steps_path(task: Uuid) -> [String; 4] {
    ["v1".into(), "tasks".into(), task.to_string(), "workflow_steps".into()]
}
