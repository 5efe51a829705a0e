//! `tasker-ctl dlq …`: messages that nobody could handle. It speaks to SQS itself: only an operator takes a dead letter out of its queue.

mod body;
mod filter;
mod letter;
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

use crate::{deployment::Which, error::Result, output::Format};

/// What `--output json` is here, which the help of that option, made for commands that ask a server, does not say.
pub const JSON: &str = "With --output json this prints a document of its own: it asks SQS, and no server has a part in it.";

/// A command and the deployment that it is about.
#[derive(Debug, Args)]
#[command(after_help = JSON)]
pub struct Dlq {
    #[command(flatten)]
    deployment: Which,
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// List dead letters and why they are dead; takes none out of its queue
    ///
    /// Looking hides a letter from others for a moment, and for 30 seconds at most if the command is killed.
    List(list::LetterListArgs),
    /// Show one dead letter
    Show(show::LetterShowArgs),
    /// Send dead letters back to the queue they died in, once what killed them is mended
    ///
    /// `move` lets SQS do it (StartMessageMoveTask): a whole queue, so with --queue alone; it goes on when this command is stopped.
    /// `copy` receives a letter, sends it, and deletes it once the send was accepted: if the command is killed in between the letter is
    /// there twice, which is harmless, as every message may come twice. `auto` takes move where it can, and copy for the queue of
    /// intake: only a copy says the id that its request had before, by which a duplicate is known. It always says which it used.
    Redrive(redrive::Redrive),
    /// Delete dead letters for good
    ///
    /// Deleting a letter about a step leaves the step as it is: `tasker-ctl task get` shows how it stands.
    Purge(purge::Purge),
}

/// Runs one of the commands.
pub async fn run(Dlq { deployment, command }: &Dlq, format: Format) -> Result {
    match command {
        DlqCommand::List(which) => list::run(which, deployment, format).await,
        DlqCommand::Show(which) => show::run(which, deployment, format).await,
        DlqCommand::Redrive(what) => redrive::run(what, deployment, format).await,
        DlqCommand::Purge(what) => purge::run(what, deployment, format).await,
    }
}
