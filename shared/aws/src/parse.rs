//! Reads messages. What can never be read is told from what another version of this code may read.

use serde::{Deserialize, de::DeserializeOwned};
use tasker_wire::{StepId, TaskId, message::VERSION};

/// Why a message was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A version that this code does not know; while functions are replaced one by one, another instance may.
    #[error("it has version {0}; this version reads {VERSION}")]
    OtherVersion(u64),
    /// It can never be read.
    #[error("{0}")]
    Malformed(String),
}

/// The version of a message, if it is an object that names one.
#[derive(Deserialize)]
struct Versioned {
    v: Option<u64>,
}

/// Reads a message of the orchestrator.
pub fn parse<T: DeserializeOwned>(body: &str) -> Result<T, Unreadable> {
    let malformed = |e: serde_json::Error| Unreadable::Malformed(format!("it is not a message of this queue: {}", unquoted(&e)));
    match serde_json::from_str::<Versioned>(body).map_err(malformed)?.v {
        None => Err(Unreadable::Malformed("it names no version `v`".into())),
        Some(v) if v != u64::from(VERSION) => Err(Unreadable::OtherVersion(v)),
        Some(_) => serde_json::from_str(body).map_err(malformed),
    }
}

/// What is wrong with a document, without the value that is wrong: it may be a secret of whoever sent it.
pub fn unquoted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.find("expected ") {
        Some(at) if text.starts_with("invalid ") || text.starts_with("unknown ") => text[at..].to_owned(),
        _ if text.starts_with("invalid ") || text.starts_with("unknown ") => {
            format!("something else was expected at line {} column {}", error.line(), error.column())
        }
        _ => text,
    }
}

/// The step that a message which cannot be read is about, if it says so much.
pub fn step_of(body: &str) -> Option<StepId> {
    #[derive(Deserialize)]
    struct About {
        task_id: Option<TaskId>,
        step_id: StepId,
    }
    let about: About = serde_json::from_str(body).ok()?;
    about.task_id.is_none_or(|task| task == about.step_id.task).then_some(about.step_id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tasker_wire::Evaluate;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_can_never_be_read_is_told_from_what_another_version_may_read() {
        let step = TaskId::from_fresh(Uuid::from_u128(1 << 90)).step(16_384);
        let good = json!({"v": 1, "step_id": step, "lease": 3}).to_string();
        assert_eq!(parse::<Evaluate>(&good).unwrap().lease, 3);
        let newer = json!({"v": 2, "of": "another shape"}).to_string();
        assert_eq!(parse::<Evaluate>(&newer), Err(Unreadable::OtherVersion(2)));
        for bad in
            ["", "{", "[]", "null", "7", r#"{"v":1}"#, r#"{"step_id":"x"}"#, r#"{"v":"1"}"#, r#"{"v":-1}"#, r#"{"v":1,"v":2}"#]
        {
            assert!(matches!(parse::<Evaluate>(bad), Err(Unreadable::Malformed(_))), "{bad}");
        }
        let secret = json!({"v": 1, "step_id": step, "lease": "hunter2"}).to_string();
        let said = parse::<Evaluate>(&secret).unwrap_err().to_string();
        assert!(said.contains("expected i32") && !said.contains("hunter2"), "{said}");
        assert_eq!(step_of(&json!({"v": 1, "step_id": step, "lease": "x"}).to_string()), Some(step));
        assert_eq!(step_of("{}"), None);
    }
}
