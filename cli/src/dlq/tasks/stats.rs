//! `tasker-ctl dlq stats`.

use clap::Args;
use serde_json::value::RawValue;
use tasker_wire::rest::{DlqCause, DlqStats};

use crate::{
    client::Client,
    error::Result,
    output::{self, Format, moment, table},
};

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Show at most so many causes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    max: u32,
}

pub async fn run(args: &StatsArgs, client: &Client, format: Format) -> Result {
    let stats = client.get(&["v1", "dlq", "stats"], &()).await?;
    let causes = client.get(&["v1", "dlq", "causes"], &[("limit", args.max)]).await?;
    if format == Format::Json {
        let (stats, causes): (Box<RawValue>, Box<RawValue>) = (stats.read()?, causes.read()?);
        return output::print_json(&format!(r#"{{"stats":{stats},"causes":{causes}}}"#));
    }
    let stats: Vec<DlqStats> = stats.read()?;
    if stats.is_empty() {
        return output::print("no entries about tasks");
    }
    let causes: Vec<DlqCause> = causes.read()?;
    output::print(&by_reason(&stats))?;
    if causes.is_empty() {
        output::print("\nnothing is pending")
    } else {
        output::print(&format!("\nPending, by cause:\n\n{}", by_cause(&causes)))
    }
}

fn by_reason(stats: &[DlqStats]) -> String {
    let row = |stats: &DlqStats| {
        let counts = [stats.total_entries, stats.pending, stats.manually_resolved, stats.permanent_failures, stats.cancelled];
        let mut row = vec![stats.dlq_reason.to_string()];
        row.extend(counts.map(|count| count.to_string()));
        row
    };
    table(&["DLQ REASON", "TOTAL", "PENDING", "RESOLVED", "FAILED", "CANCELLED"], stats.iter().map(row))
}

fn by_cause(causes: &[DlqCause]) -> String {
    let row = |cause: &DlqCause| {
        vec![
            cause.fingerprint.clone(),
            cause.entries.to_string(),
            format!("{}/{}", cause.namespace, cause.template),
            cause.step.clone().unwrap_or_default(),
            format!("{}: {}", cause.dlq_reason, cause.reason_detail),
            moment(&cause.first_entry),
            moment(&cause.last_entry),
        ]
    };
    table(&["FINGERPRINT", "ENTRIES", "TEMPLATE", "STEP", "CAUSE", "FIRST", "LAST"], causes.iter().map(row))
}
