//! `tasker-ctl dlq purge`.

use clap::Args;
use serde_json::{Value, json};

use super::{
    filter::Filter,
    list,
    look::{Found, look},
    report::Report,
    work::{Deed, Work, pace},
};
use crate::{
    deployment::Which,
    error::{CommandError, Result},
    output::{self, Format},
};

/// Letters deleted in a second; fast enough, and no load.
const RATE: u32 = 100;

/// Which letters to delete.
#[derive(Debug, Args)]
#[command(after_help = super::JSON)]
pub struct Purge {
    /// Delete at most so many
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: u32,
    /// Show which letters match, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Really delete them: it cannot be undone
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    #[command(flatten)]
    filter: Filter,
}

/// Runs the command.
pub async fn run(what: &Purge, deployment: &Which, format: Format) -> Result {
    what.filter.refuse_empty("delete")?;
    if !what.yes && !what.dry_run {
        return Err(CommandError::usage(
            "nothing was deleted: give --dry-run to see which letters match, or --yes to delete them for good",
        ));
    }
    let deployment = deployment.open().await?;
    let queues = deployment.choose(what.filter.queue.as_deref()).await?;
    let most = what.max as usize;
    if what.dry_run {
        let found = look(&deployment, &queues, most, |letter| what.filter.takes(letter)).await?;
        return rehearsed(found, "deleted", json!({}), format);
    }
    let mut report = Report::new(format, "deleted");
    let work = Work { depot: &deployment.depot, filter: &what.filter, deed: Deed::Purge, pace: pace(RATE), left: most };
    let worked = work.run(&queues, &mut report).await;
    // What went wrong at last says more than what was kept before.
    let reported = report.end(json!({}));
    worked.and(reported)
}

/// Tells what would be done.
pub fn rehearsed(found: Found, deed: &str, with: Value, format: Format) -> Result {
    let Found { letters, rest } = found;
    let letters: Vec<_> = letters.into_iter().map(|(summary, _)| summary).collect();
    if format == Format::Json {
        let mut shown = with;
        shown["dry_run"] = json!(true);
        shown["items"] = json!(letters);
        rest.tell(&mut shown);
        return output::print_json(&shown.to_string());
    }
    if letters.is_empty() {
        let maybe = rest.told("", "; there may be some that were not seen: run it again");
        return output::print(&format!("no letter matches{maybe}"));
    }
    let plural = if letters.len() == 1 { "" } else { "s" };
    let more = rest.told(", and there are more that match", ", and there may be more that match: run it again");
    output::print(&format!("{}\n\n{} letter{plural} would be {deed}{more}", list::rows(&letters), letters.len()))
}
