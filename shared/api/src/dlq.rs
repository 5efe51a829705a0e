//! `/v1/dlq`: tasks and steps that wait for an operator.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use tasker_domain::dlq::{Investigation, RecoverRequest, parse_investigation, parse_recover, refuse_fingerprint};
use tasker_engine::{By, RecoverError};
use tasker_queue::Queue;
use tasker_store::{EntryChange, EntryChanged, EntryPosition, StalePosition, WatchedTask};
use tasker_wire::{
    Fault, limits,
    rest::{
        DlqCause, DlqEntry, DlqFilter, DlqInvestigated, DlqInvestigationQueueEntry, DlqReason, DlqStats, DlqStatus,
        RecoverResponse, StalenessMonitoring,
    },
};

use crate::{
    App,
    problem::Problem,
    request::{self, InPath, QueryReader},
    shape,
};

/// Entries of a list, unless the request says another number.
const LISTED: u32 = 50;
/// Pages of steps that the list of stale tasks looks at.
const STALE_PAGES: usize = 10;

/// `GET /v1/dlq`
pub(crate) async fn list<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<Vec<DlqEntry>>, Problem> {
    let mut query = QueryReader::new(&uri);
    let status = word(&mut query, "resolution_status", DlqStatus::parse, DlqStatus::ALL);
    let filter = DlqFilter {
        dlq_reason: word(&mut query, "dlq_reason", DlqReason::parse, DlqReason::ALL),
        namespace: query.text("namespace"),
        template: query.text("template"),
        step: query.text("step"),
        fingerprint: query.text("fingerprint"),
        entries: None,
        older_than_seconds: query.number("older_than_seconds", 1..=u32::MAX),
    };
    if let Some(fault) = filter.fingerprint.as_deref().and_then(refuse_fingerprint) {
        query.fault("fingerprint", fault);
    }
    let limit = query.number("limit", 1..=limits::PAGE).unwrap_or(LISTED);
    let offset = query.number("offset", 0..=limits::COUNTED_ROWS as u32).unwrap_or(0);
    query.finish()?;
    let entries = app.engine.store().dlq_entries(status, &filter, limit, offset).await?;
    Ok(Json(entries.into_iter().map(shape::dlq_entry).collect()))
}

/// `GET /v1/dlq/task/{task}`
pub(crate) async fn of_task<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(task): InPath<String>,
    uri: Uri,
) -> Result<Json<DlqEntry>, Problem> {
    QueryReader::new(&uri).finish()?;
    let entry = app.engine.store().dlq_entry_of_task(request::task_id(&task)?).await?;
    entry.map(|entry| Json(shape::dlq_entry(entry))).ok_or_else(|| Problem::not_found("DLQ entry of this task"))
}

/// `GET /v1/dlq/entry/{entry}`
pub(crate) async fn show<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(entry): InPath<String>,
    uri: Uri,
) -> Result<Json<DlqEntry>, Problem> {
    QueryReader::new(&uri).finish()?;
    let entry = app.engine.store().dlq_entry(request::uuid(&entry)?).await?;
    entry.map(|entry| Json(shape::dlq_entry(entry))).ok_or_else(|| Problem::not_found("DLQ entry"))
}

/// `PATCH /v1/dlq/entry/{entry}`
pub(crate) async fn investigate<Q: Queue>(
    State(app): State<App<Q>>,
    InPath(entry): InPath<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DlqInvestigated>, Problem> {
    QueryReader::new(&uri).finish()?;
    let entry = request::uuid(&entry)?;
    let body = read(&headers, body).await?;
    let read = parse_investigation(&body).map_err(|faults| request::refused_json(&body, faults.into()))?;
    let Investigation { status, notes, actor, metadata } = read;
    let change = EntryChange {
        status,
        notes: notes.as_deref(),
        actor: actor.as_deref(),
        metadata: metadata.as_ref().map(|metadata| metadata.get()),
    };
    match app.engine.store().investigate(entry, change).await? {
        EntryChanged::Yes => {
            Ok(Json(DlqInvestigated { success: true, message: "the investigation is recorded".into(), dlq_entry_uuid: entry }))
        }
        EntryChanged::NotFound => Err(Problem::not_found("DLQ entry")),
        EntryChanged::Ended(state) => {
            let message = format!("its task is {state}, so nobody can do anything about it, and the entry stays closed");
            Err(Problem::new(StatusCode::CONFLICT, "CONFLICT", message))
        }
        EntryChanged::OtherPending => {
            let message = "its task has another pending entry of this reason, so this one stays closed";
            Err(Problem::new(StatusCode::CONFLICT, "CONFLICT", message))
        }
    }
}

/// `GET /v1/dlq/stats`
pub(crate) async fn stats<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<Vec<DlqStats>>, Problem> {
    QueryReader::new(&uri).finish()?;
    let counts = app.engine.store().dlq_counts().await?;
    Ok(Json(counts.into_iter().map(shape::dlq_stats).collect()))
}

/// `GET /v1/dlq/causes`
pub(crate) async fn causes<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<Vec<DlqCause>>, Problem> {
    let limit = limit(&uri)?;
    let causes = app.engine.store().dlq_causes(limit).await?;
    Ok(Json(causes.into_iter().map(shape::dlq_cause).collect()))
}

/// `GET /v1/dlq/investigation-queue`
pub(crate) async fn queue<Q: Queue>(
    State(app): State<App<Q>>,
    uri: Uri,
) -> Result<Json<Vec<DlqInvestigationQueueEntry>>, Problem> {
    let limit = limit(&uri)?;
    let entries = app.engine.store().urgent_entries(limit).await?;
    Ok(Json(entries.into_iter().map(shape::urgent_entry).collect()))
}

/// `GET /v1/dlq/staleness`: the most urgent tasks among those of the first steps that the sweep will look at.
pub(crate) async fn staleness<Q: Queue>(State(app): State<App<Q>>, uri: Uri) -> Result<Json<Vec<StalenessMonitoring>>, Problem> {
    let limit = limit(&uri)?;
    let (mut position, mut watched) = (StalePosition::start(), Vec::<WatchedTask>::new());
    for _ in 0..STALE_PAGES {
        let (page, next) = app.engine.store().watched_tasks(&position, true).await?;
        watched.extend(page);
        match next {
            // The walk is the sweep's, because it moves its place.
            Some(next) if next != StalePosition::Walk => position = next,
            _ => break,
        }
    }
    Ok(Json(shape::staleness(watched, limit as usize)))
}

/// `POST /v1/dlq/recover`
pub(crate) async fn recover<Q: Queue>(
    State(app): State<App<Q>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RecoverResponse>, Problem> {
    QueryReader::new(&uri).finish()?;
    let body = read(&headers, body).await?;
    let request = parse_recover(&body).map_err(|faults| request::refused_json(&body, faults.into()))?;
    let after = request.after.as_deref().map(position).transpose()?;
    let by = By { actor: request.actor, reason: request.reason, metadata: None };
    let RecoverRequest { filter, max, dry_run, seen, .. } = request;
    let page = match seen.filter(|_| !dry_run) {
        Some(seen) => match app.engine.recover_seen(&filter, after.as_ref(), max, &by, &seen).await {
            Err(RecoverError::Changed(now)) => return Err(Problem::changed_recovery(shape::recovered(now, false))),
            Err(RecoverError::Store(error)) => return Err(error.into()),
            Ok(page) => page,
        },
        None => app.engine.recover_entries(&filter, after.as_ref(), max, &by, dry_run).await?,
    };
    Ok(Json(shape::recovered(page, !dry_run)))
}

fn limit(uri: &Uri) -> Result<u32, Problem> {
    let mut query = QueryReader::new(uri);
    let limit = query.number("limit", 1..=limits::PAGE).unwrap_or(limits::PAGE);
    query.finish()?;
    Ok(limit)
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    request::body(headers, body, request::JSON, limits::BODY_BYTES).await
}

/// A word in either of Tasker's spellings.
fn word<T: std::fmt::Display>(query: &mut QueryReader, key: &'static str, parse: fn(&str) -> Option<T>, all: &[T]) -> Option<T> {
    let text = query.text(key)?;
    let word = parse(&text);
    if word.is_none() {
        let words: Vec<String> = all.iter().map(ToString::to_string).collect();
        query.fault(key, format!("must be one of {}", words.join(", ")));
    }
    word
}

/// The place of the next page, as [`shape::recovered`] writes it.
fn position(text: &str) -> Result<EntryPosition, Problem> {
    let mut parts = text.split('|');
    let position = (|| {
        let moment = |text: &str| text == "-infinity" || text.chars().all(|c| c.is_ascii_digit() || "-+:. ".contains(c));
        let (before, created_at) = (parts.next().filter(|t| moment(t))?, parts.next().filter(|t| moment(t))?);
        let dlq_entry_id = parts.next()?.parse().ok()?;
        Some(EntryPosition { before: before.into(), created_at: created_at.into(), dlq_entry_id })
    })();
    position.ok_or_else(|| Problem::malformed(Fault::new("/after", "is not what an answer returned as `next`").into()))
}
