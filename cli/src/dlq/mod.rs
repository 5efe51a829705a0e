//! `tasker-ctl dlq …`: what was given up. Messages in the dead-letter queues of a deployment are asked of SQS; tasks and steps that wait for
//! an operator are asked of a server.

mod body;
mod dead_letter;
mod filter;
mod list;
mod look;
mod moving;
mod purge;
mod redrive;
mod report;
mod scan;
mod show;
mod tasks;
mod work;

use clap::{Args, Subcommand};

use crate::{
    client::Client,
    deployment::DeploymentArgs,
    error::{CommandError, Result},
    output::Format,
};

/// Corrects the help of `--output`, which describes commands that ask a server.
pub const JSON: &str = "With --output json this prints a document of its own, because it asks SQS and no server.";

const BOTH: &str =
    "Without --tasks and --messages it is about messages if a deployment is named (--queues or TASKER_QUEUES), else about tasks.";

#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(flatten)]
    deployment: DeploymentArgs,
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List tasks that wait for an operator, or dead letters with their reasons
    ///
    /// All dead letters stay in their queues. Listing hides a dead letter from other receivers for a moment, and for up to 30 seconds if the
    /// command is killed.
    #[command(after_help = BOTH)]
    List(Box<ListArgs>),
    /// Show why a task waits for an operator, or one dead letter
    #[command(after_help = BOTH)]
    Show(ShowArgs),
    /// Let tasks that wait for an operator go on, once the cause is fixed
    ///
    /// The failed and cancelled steps of a failed task get all their attempts again, and so does a step that waits for its retry. Each entry is
    /// one transaction, and is reported. It may be repeated, and two that run at once recover each entry once.
    Recover(Box<tasks::RecoverArgs>),
    /// Count the tasks that wait for an operator, by reason and by cause
    Stats(tasks::StatsArgs),
    /// Write down what became of an entry about a task; the task stays as it is
    Investigate(tasks::InvestigateArgs),
    /// Send dead letters back to their original queue, once the cause is fixed
    ///
    /// `move` lets SQS move a whole queue (StartMessageMoveTask), so it needs --queue and no other filter; it continues if this command is
    /// stopped. `copy` receives a dead letter, sends it, and deletes it after SQS accepted the copy. If the command is killed in between,
    /// there are two copies, which is harmless, because every message may arrive twice. `auto` moves where it can, and copies for the intake
    /// queue: only a copy keeps the original id of a request, which detects duplicates. The output names the mechanism.
    Redrive(redrive::RedriveArgs),
    /// Delete dead letters permanently
    ///
    /// The step that a dead letter is about stays unchanged: `tasker-ctl task get` shows its state.
    Purge(purge::PurgeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    messages: list::DlqListArgs,
    #[command(flatten)]
    tasks: tasks::EntryListArgs,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    message: show::DlqShowArgs,
}

/// What a command is about.
#[derive(Debug, Args)]
struct Which {
    /// Tasks that wait for an operator, from the server
    #[arg(long, conflicts_with = "messages", conflicts_with = "queue")]
    tasks: bool,
    /// Messages in dead-letter queues, from SQS
    #[arg(long)]
    messages: bool,
}

impl Which {
    fn is_tasks(&self, queue: Option<&String>, deployment: &DeploymentArgs) -> bool {
        self.tasks || !(self.messages || queue.is_some() || deployment.is_named())
    }
}

pub async fn run(DlqArgs { deployment, command }: &DlqArgs, client: impl FnOnce() -> Result<Client>, format: Format) -> Result {
    match command {
        DlqCommand::List(args) if args.which.is_tasks(args.messages.queue.as_ref(), deployment) => {
            tasks::list(&args.tasks, args.messages.max, &client()?, format).await
        }
        DlqCommand::List(args) if !args.tasks.is_empty() => {
            Err(CommandError::usage("--status and the filters are for tasks: give --tasks too"))
        }
        DlqCommand::List(args) => list::run(&args.messages, deployment, format).await,
        DlqCommand::Show(args) if args.which.is_tasks(args.message.queue.as_ref(), deployment) => {
            tasks::show(&args.message.id, &client()?, format).await
        }
        DlqCommand::Show(args) => show::run(&args.message, deployment, format).await,
        DlqCommand::Recover(args) => tasks::recover(args, &client()?, format).await,
        DlqCommand::Stats(args) => tasks::stats(args, &client()?, format).await,
        DlqCommand::Investigate(args) => tasks::investigate(args, &client()?, format).await,
        DlqCommand::Redrive(args) => redrive::run(args, deployment, format).await,
        DlqCommand::Purge(args) => purge::run(args, deployment, format).await,
    }
}
