//! `tasker-ctl dlq recover`.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;
use tasker_domain::digest;
use tasker_wire::{
    limits,
    rest::{RecoverBody, RecoverResponse, RecoveredEntry, StepEffect},
};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{EntryFilter, list::counted_entries};
use crate::{
    action::{ByArgs, without_dry_run},
    client::Client,
    error::{CommandError, Exit, Result},
    output::{self, Format, line},
};

#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Entries per second
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// Recover at most so many
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: u32,
    #[command(flatten)]
    by: ByArgs,
    /// What a dry run printed: act only if that would still do the same
    #[arg(long, value_name = "SEEN", conflicts_with = "dry_run")]
    seen: Option<String>,
    #[command(flatten)]
    filter: RecoverFilter,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Filters (at least one; an entry must match all of them)")]
pub struct RecoverFilter {
    /// These entries
    #[arg(short, long = "entry", value_name = "ID")]
    entries: Vec<Uuid>,
    #[command(flatten)]
    filter: EntryFilter,
}

/// The steps of an entry that are named.
const LISTED_STEPS: usize = 10;

/// What became of the entries so far.
#[derive(Default)]
struct Progress {
    items: Vec<RecoveredEntry>,
    /// The digest of each page.
    pages: Vec<String>,
    /// Whether more may match.
    more: bool,
}

pub async fn run(args: &RecoverArgs, client: &Client, format: Format) -> Result {
    let mut body = RecoverBody {
        filter: args.filter.filter.filter(),
        actor: args.by.actor.clone(),
        reason: args.by.reason.clone(),
        dry_run: args.by.dry_run,
        ..RecoverBody::default()
    };
    if !args.filter.entries.is_empty() {
        body.filter.entries = Some(args.filter.entries.clone());
    }
    if args.filter.filter.is_empty() && args.filter.entries.is_empty() {
        let options = "--entry, --namespace, --template, --step, --fingerprint, --dlq-reason or --older-than";
        return Err(CommandError::usage(format!("no entries are selected: give one or more of {options} to recover them")));
    }
    let mut expected = None;
    if let Some(seen) = &args.seen {
        let mut now = Progress::default();
        let dry = RecoverBody { dry_run: true, ..body.clone() };
        recover(args, dry, client, Format::Json, None, &mut now).await?;
        if now.seen() != *seen {
            let message =
                "what the recovery would do has changed since the dry run; nothing was done, look at it again with --dry-run";
            return Err(CommandError::new(Exit::Conflict, message));
        }
        expected = Some(now.pages);
    }
    let mut progress = Progress::default();
    // What was recovered before an error is reported before it.
    let ended = recover(args, body, client, format, expected.as_deref(), &mut progress).await;
    if ended.is_ok() && !progress.more {
        progress.note_missing(&args.filter.entries, format)?;
    }
    let reported = report(&progress, args, format);
    ended.and(reported)
}

/// Recovers page by page. `expected`: what a dry run of the same pages answered.
async fn recover(
    args: &RecoverArgs,
    mut body: RecoverBody,
    client: &Client,
    format: Format,
    expected: Option<&[String]>,
    progress: &mut Progress,
) -> Result {
    let mut left = args.max;
    loop {
        let most = left.min(args.rate).min(limits::RECOVERED_ENTRIES);
        let next = Instant::now() + Duration::from_secs(1) * most / args.rate;
        body.max = Some(most);
        body.seen = match expected {
            None => None,
            Some(pages) => match pages.get(progress.pages.len()) {
                None => return Ok(()),
                seen => seen.cloned(),
            },
        };
        let page: RecoverResponse = client.send(Method::POST, &["v1", "dlq", "recover"], &body).await?.read()?;
        if format == Format::Table {
            for item in &page.items {
                output::print(&view(item, body.dry_run))?;
                item.warnings.iter().try_for_each(|warning| output::print(&format!("! {}", line(warning))))?;
            }
        }
        left -= (page.items.len() as u32).min(left);
        progress.more = page.next.is_some();
        progress.pages.push(page.seen);
        let failed = page.items.iter().any(|item| item.outcome == "failed");
        progress.items.extend(page.items);
        if left == 0 || failed || page.next.is_none() {
            return Ok(());
        }
        body.after = page.next;
        if !body.dry_run {
            sleep_until(next).await;
        }
    }
}

impl Progress {
    /// Entries that were named and not found are reported like all others.
    fn note_missing(&mut self, named: &[Uuid], format: Format) -> Result {
        let is_found = |id: &Uuid| self.items.iter().any(|item| item.dlq_entry_uuid == *id);
        let missing: Vec<Uuid> = named.iter().copied().filter(|id| !is_found(id)).collect();
        for dlq_entry_uuid in missing {
            let why = "there is no such entry that is pending and matches";
            if format == Format::Table {
                output::print(&format!("{dlq_entry_uuid}  skipped: {why}"))?;
            }
            let (outcome, why) = ("skipped".to_owned(), Some(why.to_owned()));
            self.items.push(RecoveredEntry { dlq_entry_uuid, outcome, why, ..RecoveredEntry::default() });
        }
        Ok(())
    }

    fn seen(&self) -> String {
        digest::seen(&self.pages.join("\n"))
    }
}

fn view(item: &RecoveredEntry, dry_run: bool) -> String {
    let outcome = match (item.outcome.as_str(), dry_run, &item.why) {
        ("recovered", true, _) => format!("would be recovered: {}", changed(item)),
        ("recovered", false, _) => format!("recovered: {}", changed(item)),
        (outcome, _, Some(why)) => format!("{outcome}: {why}"),
        (outcome, ..) => outcome.to_owned(),
    };
    let step = item.step.as_ref().map(|step| format!(" step {step}")).unwrap_or_default();
    line(&format!("{}  task {} {}/{}{step}  {outcome}", item.dlq_entry_uuid, item.task_uuid, item.namespace, item.template))
}

/// What becomes of the steps, such as `a enqueued, b pending`.
fn changed(item: &RecoveredEntry) -> String {
    let of = |step: &StepEffect| format!("{} {}", step.name, step.to_state);
    let named = item.changed.iter().take(LISTED_STEPS).map(of).collect::<Vec<_>>().join(", ");
    match item.steps.saturating_sub(LISTED_STEPS.min(item.changed.len())) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn report(progress: &Progress, args: &RecoverArgs, format: Format) -> Result {
    let count = |outcome: &str| progress.items.iter().filter(|item| item.outcome == outcome).count();
    let (recovered, skipped, failed) = (count("recovered"), count("skipped"), count("failed"));
    match format {
        Format::Json => {
            let document = json!({
                "applied": !args.by.dry_run, "items": progress.items, "recovered": recovered, "skipped": skipped, "failed": failed,
                "more": progress.more, "seen": progress.seen(),
            });
            output::print_json(&document.to_string())?;
        }
        Format::Table if progress.items.is_empty() => output::print("no entry matches: nothing was done")?,
        Format::Table => {
            let verb = if args.by.dry_run { "would be recovered" } else { "recovered" };
            let more = if progress.more { "; more may match: run it again, or give a larger --max" } else { "" };
            output::print(&format!("{} {verb}, {skipped} skipped, {failed} failed{more}", counted_entries(recovered)))?;
            if args.by.dry_run && recovered > 0 {
                output::print(&format!(
                    "Nothing was done. To do it: {}",
                    without_dry_run(std::env::args(), Some(&progress.seen()))
                ))?;
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(CommandError::new(Exit::Error, format!("{} could not be recovered", counted_entries(failed)))),
    }
}
