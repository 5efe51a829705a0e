//! Reads messages from the texts that a queue carries, and distinguishes malformed ones from those of another version.

use std::{
    fmt::{Debug, Display},
    sync::Arc,
};

use serde::{Deserialize, de::DeserializeOwned};
use tasker_wire::{CompleteStep, Evaluate, Lease, RunStep, StepId, TaskId, message::VERSIONS};

use crate::Unreadable;

/// A message as a queue carries it. Its content is not trusted.
#[derive(Debug)]
pub struct RawMessage<'a> {
    pub body: &'a str,
    /// The id from when it was first sent, before any redrive.
    pub first_id: &'a str,
    pub traceparent: Option<String>,
}

/// The type of a queue's messages.
pub trait Content: Clone + Debug + Send + Sync + 'static {
    /// The name of the type in lists for operators.
    const KIND: &'static str;

    fn read(message: RawMessage<'_>) -> Result<Self, Unreadable>;

    /// The lease of the dispatch that it is about.
    fn lease(&self) -> Option<Lease>;
}

impl Content for RunStep {
    const KIND: &'static str = "RunStep";

    fn read(message: RawMessage<'_>) -> Result<Self, Unreadable> {
        parse(message.body, |step: &Self| step.v)
    }

    fn lease(&self) -> Option<Lease> {
        Some(self.lease())
    }
}

impl Content for Arc<CompleteStep> {
    const KIND: &'static str = "CompleteStep";

    fn read(message: RawMessage<'_>) -> Result<Self, Unreadable> {
        parse(message.body, |completion: &Self| completion.v)
    }

    fn lease(&self) -> Option<Lease> {
        Some(CompleteStep::lease(self))
    }
}

impl Content for Evaluate {
    const KIND: &'static str = "Evaluate";

    fn read(message: RawMessage<'_>) -> Result<Self, Unreadable> {
        parse(message.body, |wake_up: &Self| wake_up.v)
    }

    fn lease(&self) -> Option<Lease> {
        Some(Lease { step: self.step_id, number: self.lease })
    }
}

#[derive(Deserialize)]
struct Versioned {
    v: Option<u64>,
}

/// Reads a message, whose version `version` returns. A message of another version may have another shape, so the version of an
/// unreadable one is read separately.
fn parse<T: DeserializeOwned>(body: &str, version: impl Fn(&T) -> u32) -> Result<T, Unreadable> {
    let malformed = |e: serde_json::Error| Unreadable::Malformed(format!("it is not a message of this queue: {}", unquoted(&e)));
    let (error, v) = match serde_json::from_str::<T>(body) {
        Ok(message) if VERSIONS.contains(&version(&message)) => return Ok(message),
        Ok(message) => return Err(Unreadable::OtherVersion(version(&message).into())),
        Err(error) => (error, serde_json::from_str::<Versioned>(body).map_err(malformed)?.v),
    };
    match v {
        None => Err(Unreadable::Malformed("it names no version `v`".into())),
        Some(v) if !u32::try_from(v).is_ok_and(|v| VERSIONS.contains(&v)) => Err(Unreadable::OtherVersion(v)),
        Some(_) => Err(malformed(error)),
    }
}

/// The error of a JSON document without the wrong value, which may be a secret of the sender.
pub fn unquoted(error: &impl Display) -> String {
    let text = error.to_string();
    if !text.starts_with("invalid ") && !text.starts_with("unknown ") {
        return text;
    }
    match (text.find("expected "), text.rfind(" at line ")) {
        (Some(expected), _) => text[expected..].to_owned(),
        (None, Some(place)) => format!("something else was expected{}", &text[place..]),
        (None, None) => "something else was expected".to_owned(),
    }
}

/// The step that an unreadable message is about, if it names one.
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
    use uuid::Uuid;

    use super::*;

    fn read(body: &str) -> Result<Evaluate, Unreadable> {
        Evaluate::read(RawMessage { body, first_id: "", traceparent: None })
    }

    #[test]
    fn a_malformed_message_is_distinguished_from_one_of_another_version() {
        let step = TaskId::from_fresh(Uuid::from_u128(1 << 90)).step(16_384);
        let good = json!({"v": 1, "step_id": step, "lease": 3}).to_string();
        assert_eq!(read(&good).unwrap().lease, 3);
        let newer = json!({"v": 3, "of": "another shape"}).to_string();
        assert_eq!(read(&newer), Err(Unreadable::OtherVersion(3)));
        for bad in
            ["", "{", "[]", "null", "7", r#"{"v":1}"#, r#"{"step_id":"x"}"#, r#"{"v":"1"}"#, r#"{"v":-1}"#, r#"{"v":1,"v":3}"#]
        {
            assert!(matches!(read(bad), Err(Unreadable::Malformed(_))), "{bad}");
        }
        let secret = json!({"v": 1, "step_id": step, "lease": "hunter2"}).to_string();
        let said = read(&secret).unwrap_err().to_string();
        assert!(said.contains("expected i32") && !said.contains("hunter2"), "{said}");
        assert_eq!(step_of(&json!({"v": 1, "step_id": step, "lease": "x"}).to_string()), Some(step));
        assert_eq!(step_of("{}"), None);
    }
}
