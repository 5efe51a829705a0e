//! `tasker-ctl dlq purge`.

use clap::Args;
use serde_json::{Value, json};

use super::{
    filter::Filter,
    list,
    look::{Matches, look},
    report::RunReport,
    work::{Action, Run, pace},
};
use crate::{
    deployment::DeploymentArgs,
    error::{CommandError, Result},
    output::{self, Format, counted},
};

/// Deletions per second, which are no load for SQS.
const RATE: u32 = 100;

#[derive(Debug, Args)]
#[command(after_help = super::JSON)]
pub struct PurgeArgs {
    /// Delete at most so many
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: u32,
    /// Show the matching dead letters, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Confirm the deletion, which cannot be undone
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    #[command(flatten)]
    filter: Filter,
}

pub async fn run(args: &PurgeArgs, deployment: &DeploymentArgs, format: Format) -> Result {
    args.filter.refuse_empty("delete")?;
    if !args.yes && !args.dry_run {
        return Err(CommandError::usage(
            "nothing was deleted: give --dry-run to see which dead letters match, or --yes to delete them permanently",
        ));
    }
    let deployment = deployment.open().await?;
    let queues = deployment.choose(args.filter.queue.as_deref()).await?;
    let most = args.max as usize;
    if args.dry_run {
        let found = look(&deployment, &queues, most, |dead_letter| args.filter.matches(dead_letter)).await?;
        return print_dry_run(found, "deleted", json!({}), format);
    }
    let mut report = RunReport::new(format, "deleted");
    let run = Run { admin: &deployment.admin, filter: &args.filter, action: Action::Purge, pace: pace(RATE), left: most };
    let ended = run.handle(&queues, &mut report).await;
    // The error that ended the run is more important than dead letters that were kept.
    let reported = report.end(json!({}));
    ended.and(reported)
}

/// Prints the dead letters that would be handled, for a program as an extension of `document`.
pub fn print_dry_run(found: Matches, action: &str, mut document: Value, format: Format) -> Result {
    let Matches { dead_letters, remaining } = found;
    let dead_letters: Vec<_> = dead_letters.into_iter().map(|(dead_letter, _)| dead_letter).collect();
    if format == Format::Json {
        document["dry_run"] = json!(true);
        document["items"] = json!(dead_letters);
        remaining.add_to(&mut document);
        return output::print_json(&document.to_string());
    }
    if dead_letters.is_empty() {
        let maybe = remaining.remark("", "; the search was incomplete: run it again");
        return output::print(&format!("no dead letter matches{maybe}"));
    }
    let more = remaining.remark(", and there are more that match", ", and there may be more that match: run it again");
    let count = counted(dead_letters.len(), "dead letter");
    output::print(&format!("{}\n\n{count} would be {action}{more}", list::rows(&dead_letters)))
}
