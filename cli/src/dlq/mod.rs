//! `tasker-ctl dlq …`: the dead letters of a deployment on SQS. These commands talk to SQS, not to a server.

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
mod work;

use clap::{Args, Subcommand};

use crate::{deployment::DeploymentArgs, error::Result, output::Format};

/// Corrects the help of `--output`, which describes commands that ask a server.
pub const JSON: &str = "With --output json this prints a document of its own, because it asks SQS and no server.";

#[derive(Debug, Args)]
#[command(after_help = JSON)]
pub struct DlqArgs {
    #[command(flatten)]
    deployment: DeploymentArgs,
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List dead letters with their reasons; all stay in their queues
    ///
    /// Listing hides a dead letter from other receivers for a moment, and for up to 30 seconds if the command is killed.
    List(list::DlqListArgs),
    /// Show one dead letter
    Show(show::DlqShowArgs),
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

pub async fn run(DlqArgs { deployment, command }: &DlqArgs, format: Format) -> Result {
    match command {
        DlqCommand::List(args) => list::run(args, deployment, format).await,
        DlqCommand::Show(args) => show::run(args, deployment, format).await,
        DlqCommand::Redrive(args) => redrive::run(args, deployment, format).await,
        DlqCommand::Purge(args) => purge::run(args, deployment, format).await,
    }
}
