//! Reads the body, the query and the ids of a request.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE, request::Parts},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use tasker_domain::did_you_mean;
use tasker_wire::{Fault, Faults, StepId, TaskId, limits, message::is_traceparent};
use uuid::Uuid;

use crate::problem::Problem;

pub(crate) const JSON: &[&str] = &["application/json"];
pub(crate) const TEMPLATE: &[&str] =
    &["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain", "application/json"];

/// The body of a request. It must be empty or have one of these content types, and have at most `bytes` bytes.
///
/// A body without a content type is rejected: a web page can send one to any address without a preflight request.
pub(crate) async fn body(headers: &HeaderMap, body: Body, types: &[&str], bytes: usize) -> Result<Bytes, Problem> {
    let given = headers.get(CONTENT_TYPE).map(|v| String::from_utf8_lossy(v.as_bytes()).to_ascii_lowercase());
    let essence = given.as_deref().map(|v| v.split(';').next().unwrap_or_default().trim());
    let unknown = || {
        let message = format!("the content type must be {}", types.join(", "));
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
    };
    if essence.is_some_and(|e| !types.contains(&e)) {
        return Err(unknown());
    }
    let read = tokio::time::timeout(Duration::from_secs(limits::BODY_SECONDS), to_bytes(body, bytes)).await;
    let late = |_| {
        let message = format!("the body did not arrive within {} s", limits::BODY_SECONDS);
        Problem::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message)
    };
    let read = read.map_err(late)?.map_err(|error| unread(&error, bytes))?;
    if essence.is_none() && !read.is_empty() { Err(unknown()) } else { Ok(read) }
}

fn unread(error: &axum::Error, bytes: usize) -> Problem {
    if std::error::Error::source(error).is_some_and(|e| e.to_string().contains("length limit")) {
        return Problem::too_large(Fault::new("", format!("the body is longer than {bytes} bytes")));
    }
    Problem::malformed(Fault::new("", "the body could not be read completely").into())
}

/// Uses Tasker's code for a body that is not JSON.
pub(crate) fn refused_json(body: &[u8], problem: Problem) -> Problem {
    let syntax = serde_json::from_slice::<IgnoredAny>(body).is_err();
    if syntax { problem.with_code("JSON_ERROR") } else { problem }
}

/// The parameters of a path by position.
pub(crate) struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value)).map_err(|_| Problem::malformed(Fault::new("", "the path is not UTF-8").into()))
    }
}

/// The id of a task. A UUID that no task can have is not found.
pub(crate) fn task_id(text: &str) -> Result<TaskId, Problem> {
    TaskId::from_uuid(uuid(text)?).ok_or_else(|| Problem::not_found("task"))
}

/// The id of a step. A step of another task is not found.
pub(crate) fn step_id(task: &str, step: &str) -> Result<StepId, Problem> {
    let (task, step) = (task_id(task)?, StepId::from_uuid(uuid(step)?));
    if step.task == task { Ok(step) } else { Err(Problem::not_found("step")) }
}

pub(crate) fn uuid(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "INVALID_UUID", "the path contains an id that is not a UUID"))
}

/// The W3C `traceparent` header. A malformed one is ignored, as the standard requires.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    headers.get("traceparent")?.to_str().ok().filter(|text| is_traceparent(text)).map(str::to_owned)
}

/// Reads a query parameter by parameter, and collects every fault.
pub(crate) struct QueryReader {
    given: BTreeMap<String, String>,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl QueryReader {
    pub fn new(uri: &Uri) -> Self {
        let mut reader = Self { given: BTreeMap::new(), known: Vec::new(), faults: Vec::new() };
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            reader.fault("", "the query cannot be read");
            return reader;
        };
        for (key, value) in pairs {
            if value.contains('\0') {
                reader.fault(&key, "contains the control character U+0000");
            } else if reader.given.insert(key.clone(), value).is_some() {
                reader.fault(&key, "is given twice");
            }
        }
        reader
    }

    /// An empty text counts as absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        self.given.remove(key).filter(|text| !text.is_empty())
    }

    pub fn number(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let text = self.text(key)?;
        let number = text.parse().ok().filter(|n| range.contains(n));
        if number.is_none() {
            self.fault(key, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// How long to wait for a task to finish; at most [`limits::WAIT_SECONDS`].
    pub fn wait(&mut self) -> Option<Duration> {
        let seconds = self.number("wait", 0..=limits::WAIT_SECONDS)?;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(place(key), message));
    }

    /// Ends the reading. Every parameter that was not read is a fault.
    pub fn finish(mut self) -> Result<(), Problem> {
        for key in self.given.keys().take(limits::FAULTS) {
            let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
            let near = did_you_mean(key, self.known.iter().copied());
            self.faults.push(Fault::new(place(key), format!("unknown parameter; the known parameters are {known}{near}")));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::malformed(Faults(self.faults))) }
    }
}

/// The place of a parameter in a fault: shortened, with control characters escaped.
fn place(key: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() };
    format!("?{}", key.chars().take(limits::NAME_CHARS).map(escaped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_is_passed_on() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            traceparent(&headers)
        };
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read(good).as_deref(), Some(good));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_fault_of_a_query_is_found() {
        let uri = "/v1/tasks?page=0&per_page=x&pagee=1&name=a%00&x%1b=1".parse().unwrap();
        let mut query = QueryReader::new(&uri);
        let read = (query.number("page", 1..=9), query.number("per_page", 1..=9), query.text("name"));
        assert_eq!(read, (None, None, None));
        let Err(problem) = query.finish() else { panic!() };
        let text = format!("{problem:?}");
        for place in ["?page\"", "?per_page", "?pagee", "?name", "?x\\\\u{1b}"] {
            assert!(text.contains(place), "{place} in {text}");
        }
    }
}
