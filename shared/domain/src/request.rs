//! Reads the request for a task, and computes the identity by which duplicates are found.
//!
//! The context stays unchanged JSON text. This module does not know whether the template exists and accepts the context.

use std::cell::RefCell;

use jiff::{Timestamp, civil, tz::TimeZone};
use semver::Version;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    json,
    reader::{Findings, Object, members, refuse_line, refuse_name, refuse_prose, shown},
};
use tasker_wire::{Fault, Faults, limits};

/// A request for a task, with the defaults filled in.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    pub name: String,
    pub namespace: String,
    /// The highest version by default.
    pub version: Option<Version>,
    /// A JSON object, as it was received. [`json::check`] accepts it.
    pub context: Box<RawValue>,
    pub priority: Option<i32>,
    pub tags: Vec<String>,
    pub initiator: String,
    pub source_system: String,
    pub reason: String,
    pub correlation_id: Option<Uuid>,
    pub parent_correlation_id: Option<Uuid>,
    /// Overrides the template's identity strategy.
    pub idempotency_key: Option<String>,
    /// The id of the message that brought the request, the same in all its deliveries. It is the task's identity only where there is no
    /// other one; the body of a request cannot set it.
    pub message_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request is malformed or contains forbidden values: HTTP status 400.
    #[error("{0}")]
    Malformed(Faults),
    /// The context is too large: HTTP status 413.
    #[error("{0}")]
    TooLarge(Fault),
}

impl From<Fault> for RequestError {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault.into())
    }
}

/// Reads the body of a request for a task. Places are JSON pointers into it, or `line:column` if it is not JSON.
pub fn parse_task_request(body: &[u8]) -> Result<TaskRequest, RequestError> {
    let findings = RefCell::new(Findings::default());
    let mut members = members(body, &findings)?;
    let context = context(members.remove("context").map(Into::into), &findings)?;
    let request = read(Object::of_members(members, &findings), context);
    findings.into_inner().finish().map_err(RequestError::Malformed)?;
    Ok(request)
}

/// The identity of a task under the strategy `strict`: equal for the same template version and equal contexts, however they are
/// written. Numbers are equal if their exact decimal values are.
///
/// # Panics
/// If the context is not JSON. [`parse_task_request`] checks it.
pub fn strict_identity(namespace: &str, name: &str, version: &Version, context: &str) -> [u8; 32] {
    digest(["strict", namespace, name, &version.to_string(), &json::canonical(context)].into_iter())
}

/// The identity of a task with an idempotency key: equal for the same key and the same template in any version.
pub fn key_identity(namespace: &str, name: &str, key: &str) -> [u8; 32] {
    digest(["key", namespace, name, key].into_iter())
}

/// The identity of a task that has no other one and was requested by a message: a second delivery of it means the same task.
pub fn message_identity(namespace: &str, name: &str, message_id: &str) -> [u8; 32] {
    digest(["message", namespace, name, message_id].into_iter())
}

/// The SHA-256 of parts, each prefixed with its length so that parts cannot merge. The first part separates the kinds of identity.
fn digest<'a>(parts: impl Iterator<Item = &'a str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

fn context(context: Option<Box<RawValue>>, findings: &RefCell<Findings>) -> Result<Box<RawValue>, RequestError> {
    let context = context.filter(|context| context.get() != "null").unwrap_or_else(empty);
    let bytes = context.get().len();
    if bytes > limits::CONTEXT_BYTES {
        let message = format!(
            "has {bytes} bytes; at most {} are allowed. Store the data and pass a reference to it",
            limits::CONTEXT_BYTES
        );
        return Err(RequestError::TooLarge(Fault::new("/context", message)));
    }
    if !context.get().starts_with('{') {
        findings.borrow_mut().fault("/context", "must be a JSON object");
    }
    Ok(context)
}

fn empty() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

fn read(mut object: Object, context: Box<RawValue>) -> TaskRequest {
    let unknown = || "unknown".to_owned();
    let request = TaskRequest {
        name: object.required_checked("name", refuse_name),
        namespace: object.checked("namespace", refuse_name).unwrap_or_else(|| "default".to_owned()),
        version: parsed(&mut object, "version", "a SemVer version such as 1.0.0", |text| text.parse().ok()),
        context,
        priority: object.number("priority", i32::MIN..=i32::MAX),
        tags: tags(&mut object),
        initiator: object.checked("initiator", refuse_line).unwrap_or_else(unknown),
        source_system: object.checked("source_system", refuse_line).unwrap_or_else(unknown),
        reason: object.checked("reason", refuse_prose).unwrap_or_else(unknown),
        correlation_id: parsed(&mut object, "correlation_id", "a UUID", |text| Uuid::parse_str(text).ok()),
        parent_correlation_id: parsed(&mut object, "parent_correlation_id", "a UUID", |text| Uuid::parse_str(text).ok()),
        idempotency_key: object.checked("idempotency_key", refuse_line),
        message_id: None,
    };
    // Tasker's clients send it. It is checked and not used: the database's own clock decides.
    let _ = parsed(&mut object, "requested_at", "a time such as 2026-01-02T03:04:05", time);
    object.ignore("options", "is not read");
    if object.json("callback_url").is_some() {
        object.fault("callback_url", "is not supported yet; ask for the task's state instead");
    }
    object.close();
    request
}

fn parsed<T>(object: &mut Object, key: &'static str, what: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = object.text(key)?;
    let parsed = parse(&text);
    if parsed.is_none() {
        object.fault(key, format!("is {}; it must be {what}", shown(&text)));
    }
    parsed
}

/// A time. Tasker's clients send it in UTC without an offset.
fn time(text: &str) -> Option<Timestamp> {
    let naive = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(naive)
}

fn tags(object: &mut Object) -> Vec<String> {
    let tags = object.texts("tags", refuse_name);
    if tags.len() > limits::TAGS {
        object.fault("tags", format!("are {}; at most {} are allowed", tags.len(), limits::TAGS));
    }
    tags
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_without_an_offset_is_in_utc() {
        assert_eq!(super::time("2026-01-02T03:04:05.678901234").unwrap().to_string(), "2026-01-02T03:04:05.678901234Z");
    }
}
