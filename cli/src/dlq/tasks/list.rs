//! `tasker-ctl dlq list --tasks`.

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use tasker_wire::{
    limits,
    rest::{DlqEntry, DlqFilter, DlqStatus},
};

use super::{EntryFilter, parse_status};
use crate::{
    client::Client,
    error::Result,
    output::{self, Format, moment, shortened, table},
};

/// Characters of a reason in a row.
const REASON: usize = 60;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Tasks")]
pub struct EntryListArgs {
    /// In this state: pending, manually_resolved, permanently_failed, cancelled or all [default: pending]
    #[arg(long, value_name = "STATUS", value_parser = parse_listed)]
    status: Option<Listed>,
    #[command(flatten)]
    filter: EntryFilter,
}

/// The entries that are listed; `None` in it: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed(Option<DlqStatus>);

#[derive(Serialize)]
struct Query<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution_status: Option<&'static str>,
    #[serde(flatten)]
    filter: &'a DlqFilter,
    limit: u32,
    offset: u32,
}

impl EntryListArgs {
    /// Whether no option is given.
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.filter.is_empty()
    }
}

pub async fn run(args: &EntryListArgs, max: u32, client: &Client, format: Format) -> Result {
    let Listed(status) = args.status.unwrap_or(Listed(Some(DlqStatus::Pending)));
    let filter = args.filter.filter();
    let (mut documents, mut entries) = (Vec::<Box<RawValue>>::new(), Vec::<DlqEntry>::new());
    // One more than wanted shows that there are more.
    while entries.len() <= max as usize {
        let offset = entries.len() as u32;
        let query = Query { resolution_status: status.map(DlqStatus::as_str), filter: &filter, limit: limits::PAGE, offset };
        let page = client.get(&["v1", "dlq"], &query).await?;
        let read: Vec<DlqEntry> = page.read()?;
        let is_last = read.len() < limits::PAGE as usize;
        documents.extend(page.read::<Vec<Box<RawValue>>>()?);
        entries.extend(read);
        if is_last {
            break;
        }
    }
    let more = entries.len() > max as usize;
    entries.truncate(max as usize);
    documents.truncate(max as usize);
    if format == Format::Json {
        return output::print_json(&serde_json::to_string(&documents).expect("raw JSON serializes"));
    }
    if entries.is_empty() {
        return output::print("no entries about tasks");
    }
    let more = if more { "; there are more: give a larger --max, or a filter" } else { "" };
    output::print(&format!("{}\n\n{} about tasks{more}", rows(&entries), counted_entries(entries.len())))
}

fn rows(entries: &[DlqEntry]) -> String {
    let row = |entry: &DlqEntry| {
        vec![
            entry.dlq_entry_uuid.to_string(),
            format!("{}/{}", entry.namespace, entry.template),
            entry.step.clone().unwrap_or_default(),
            entry.resolution_status.to_string(),
            moment(&entry.dlq_timestamp),
            entry.fingerprint.clone(),
            shortened(&format!("{}: {}", entry.dlq_reason, entry.reason_detail), REASON),
        ]
    };
    table(&["ENTRY", "TEMPLATE", "STEP", "STATUS", "SINCE", "FINGERPRINT", "REASON"], entries.iter().map(row))
}

fn parse_listed(text: &str) -> std::result::Result<Listed, String> {
    if text == "all" {
        Ok(Listed(None))
    } else {
        parse_status(text).map(|status| Listed(Some(status))).map_err(|e| format!("{e}, all"))
    }
}

/// A count of entries with its noun.
pub fn counted_entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}
