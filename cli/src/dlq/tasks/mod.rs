//! DLQ entries of the server: tasks and steps that wait for an operator. These commands talk to a server, not to SQS.

mod investigate;
mod list;
mod recover;
mod show;
mod stats;

use std::time::Duration;

use clap::Args;
use tasker_domain::dlq::{FINGERPRINT_DIGITS, refuse_fingerprint};
use tasker_wire::rest::{DlqFilter, DlqReason, DlqStatus};
use uuid::Uuid;

use super::filter::parse_age;

pub use investigate::InvestigateArgs;
pub use list::EntryListArgs;
pub use recover::RecoverArgs;
pub use stats::StatsArgs;

pub use investigate::run as investigate;
pub use list::run as list;
pub use recover::run as recover;
pub use show::run as show;
pub use stats::run as stats;

/// Selects entries.
#[derive(Debug, Clone, Default, Args)]
pub struct EntryFilter {
    /// Of this namespace
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Of this template
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// About this step, by name
    #[arg(long, value_name = "NAME")]
    step: Option<String>,
    /// Of one cause, as shown by `dlq stats`
    #[arg(short, long, value_name = "F", value_parser = parse_fingerprint)]
    fingerprint: Option<String>,
    /// Of this reason: staleness_timeout, max_retries_exceeded, worker_unavailable or manual_dlq
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    dlq_reason: Option<DlqReason>,
    /// Opened longer ago than this, such as 90s, 30m, 1h or 2d
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    older_than: Option<Duration>,
}

impl EntryFilter {
    /// Whether no option is given.
    fn is_empty(&self) -> bool {
        self.filter() == DlqFilter::default()
    }

    fn filter(&self) -> DlqFilter {
        DlqFilter {
            dlq_reason: self.dlq_reason,
            namespace: self.namespace.clone(),
            template: self.template.clone(),
            step: self.step.clone(),
            fingerprint: self.fingerprint.clone(),
            entries: None::<Vec<Uuid>>,
            older_than_seconds: self.older_than.map(|age| u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
        }
    }
}

fn parse_fingerprint(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match refuse_fingerprint(&text) {
        None => Ok(text),
        Some(_) => Err(format!("expected {FINGERPRINT_DIGITS} hexadecimal digits, as shown by `dlq stats`")),
    }
}

fn parse_reason(text: &str) -> Result<DlqReason, String> {
    DlqReason::parse(text).ok_or_else(|| one_of(DlqReason::ALL))
}

fn parse_status(text: &str) -> Result<DlqStatus, String> {
    DlqStatus::parse(text).ok_or_else(|| one_of(DlqStatus::ALL))
}

fn one_of(words: &[impl ToString]) -> String {
    format!("expected one of {}", words.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}
