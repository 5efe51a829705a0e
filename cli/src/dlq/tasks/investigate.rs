//! `tasker-ctl dlq investigate`.

use clap::Args;
use reqwest::Method;
use tasker_wire::rest::{DlqInvestigated, DlqInvestigation, DlqStatus};
use uuid::Uuid;

use super::parse_status;
use crate::{
    client::Client,
    error::{CommandError, Result},
    input::{JsonSource, default_actor},
    output::{self, Format, line},
};

#[derive(Debug, Args)]
pub struct InvestigateArgs {
    /// The entry's id, as shown by `dlq list --tasks`
    #[arg(value_name = "ENTRY")]
    entry: Uuid,
    /// What becomes of it: pending, manually_resolved, permanently_failed or cancelled
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<DlqStatus>,
    /// What was found
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
    /// Who investigates
    #[arg(short = 'b', long, visible_alias = "by", default_value_t = default_actor())]
    actor: String,
    /// More data: JSON, @FILE, or - for stdin
    #[arg(long, value_name = "JSON")]
    metadata: Option<JsonSource>,
}

/// Writes down what was found. The task stays as it is.
pub async fn run(args: &InvestigateArgs, client: &Client, format: Format) -> Result {
    if args.status.is_none() && args.notes.is_none() && args.metadata.is_none() {
        return Err(CommandError::usage("nothing was found: give --status, --notes or --metadata"));
    }
    let metadata = args.metadata.as_ref().map(|metadata| metadata.read("--metadata")).transpose()?;
    let body = DlqInvestigation {
        resolution_status: args.status,
        resolution_notes: args.notes.clone(),
        resolved_by: Some(args.actor.clone()),
        metadata: metadata.map(Into::into),
    };
    let entry = args.entry.to_string();
    let response = client.send(Method::PATCH, &["v1", "dlq", "entry", &entry], &body).await?;
    output::print_response(&response, format, |done: &DlqInvestigated| format!("entry {entry}: {}", line(&done.message)))
}
