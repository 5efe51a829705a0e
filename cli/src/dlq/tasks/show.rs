//! `tasker-ctl dlq show --tasks`.

use tasker_wire::rest::DlqEntry;
use uuid::Uuid;

use crate::{
    client::{ApiResponse, Client},
    error::{CommandError, Exit, Result},
    output::{self, Format, fields, moment},
};

/// Shows an entry, by its id or by that of its task, of which it is the newest.
pub async fn run(id: &str, client: &Client, format: Format) -> Result {
    let id: Uuid = id.parse().map_err(|_| CommandError::usage(format!("`{id}` is not the id of an entry or of a task")))?;
    let response = find(id, client).await?;
    if format == Format::Json {
        return output::print_json(&response.text);
    }
    let entry: DlqEntry = response.read()?;
    output::print(&view(&entry))?;
    match &entry.task_snapshot {
        Some(snapshot) => output::print_json(snapshot.get()),
        None => Ok(()),
    }
}

async fn find(id: Uuid, client: &Client) -> Result<ApiResponse> {
    let id = id.to_string();
    match client.get(&["v1", "dlq", "entry", &id], &()).await {
        Err(error) if error.exit == Exit::NotFound => {}
        found => return found,
    }
    client.get(&["v1", "dlq", "task", &id], &()).await.map_err(|error| match error.exit {
        Exit::NotFound => CommandError::new(
            Exit::NotFound,
            format!("there is no entry {id}, and none of a task {id}; `tasker-ctl dlq list --tasks` shows all"),
        ),
        _ => error,
    })
}

fn view(entry: &DlqEntry) -> String {
    let ended = entry.resolution_timestamp.as_deref().map(moment).unwrap_or_default();
    fields(&[
        ("entry", entry.dlq_entry_uuid.to_string()),
        ("task", entry.task_uuid.to_string()),
        ("template", format!("{}/{}", entry.namespace, entry.template)),
        ("step", entry.step.clone().unwrap_or_default()),
        ("reason", format!("{}: {}", entry.dlq_reason, entry.reason_detail)),
        ("fingerprint", entry.fingerprint.clone()),
        ("since", moment(&entry.dlq_timestamp)),
        ("status", entry.resolution_status.to_string()),
        ("resolved", ended),
        ("by", entry.resolved_by.clone().unwrap_or_default()),
        ("notes", entry.resolution_notes.clone().unwrap_or_default()),
        ("metadata", entry.metadata.as_ref().map(|metadata| metadata.get().to_owned()).unwrap_or_default()),
    ])
}
