//! The protocol between the runtime and a child process of handlers: one JSON document a line. `workers/README.md` describes it for
//! authors of SDKs.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{Outcome, RunStep};

/// The version of the protocol that this code reads and writes.
pub const PROTOCOL: u32 = 1;

/// The environment variable that names the child's two pipes, as `3,4`.
pub const PIPES: &str = "TASKER_PIPES";

/// The child's first line, which it writes when it is ready.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadyLine {
    pub ready: Ready,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Ready {
    #[serde(default)]
    pub handlers: Vec<String>,
    pub protocol: u32,
    #[serde(default)]
    pub sdk: String,
    #[serde(default)]
    pub version: String,
}

/// A line to the child. The writer lends its step.
#[derive(Debug, Serialize, Deserialize)]
pub struct StepLine<Step = RunStep> {
    pub id: u64,
    pub step: Step,
}

/// A line to the child that asks it to end a step: the handler is cancelled, or can ask whether it is. The child answers the step as
/// usual. If it does not, its process is ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct StopLine {
    pub id: u64,
    pub stop: Empty,
}

/// A line to the child that asks whether it still has a step.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldLine {
    pub id: u64,
    pub held: Empty,
}

/// A later line of the child, with an outcome, a heartbeat, or whether it still has the step.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplyLine {
    pub id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
}

/// Written as `{}`; any value is read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "IgnoredAny")]
pub struct Empty {}

impl From<IgnoredAny> for Empty {
    fn from(_: IgnoredAny) -> Self {
        Self {}
    }
}

/// Appends a document as one line.
pub fn write_line(document: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    serde_json::to_writer(&mut *out, document).expect("a line serializes, and a vector takes every write");
    // Raw values may contain line ends, but strings in JSON do not.
    for byte in &mut out[start..] {
        *byte = if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte };
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(document: &impl Serialize) -> String {
        let mut out = Vec::new();
        write_line(document, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_document_is_one_line_with_its_number_first() {
        let ready = Ready { protocol: PROTOCOL, sdk: "rust".into(), version: "0.1.0".into(), handlers: vec!["ship".into()] };
        let expected = r#"{"ready":{"handlers":["ship"],"protocol":1,"sdk":"rust","version":"0.1.0"}}"#;
        assert_eq!(line(&ReadyLine { ready }), format!("{expected}\n"));
        assert_eq!(line(&StepLine { id: 7, step: "a step" }), "{\"id\":7,\"step\":\"a step\"}\n");
        assert_eq!(line(&StopLine { id: 7, stop: Empty {} }), "{\"id\":7,\"stop\":{}}\n");
        assert_eq!(line(&HeldLine { id: 7, held: Empty {} }), "{\"id\":7,\"held\":{}}\n");
        let outcome = serde_json::from_str(r#"{"success":{"result":[1,  2]}}"#).unwrap();
        assert_eq!(
            line(&ReplyLine { id: 7, outcome: Some(outcome), heartbeat: None, held: None }),
            "{\"id\":7,\"outcome\":{\"success\":{\"result\":[1,  2]}}}\n"
        );
        let heartbeat = ReplyLine { id: 7, outcome: None, heartbeat: Some(Empty {}), held: None };
        assert_eq!(line(&heartbeat), "{\"id\":7,\"heartbeat\":{}}\n");
        let held = ReplyLine { id: 7, outcome: None, heartbeat: None, held: Some(false) };
        assert_eq!(line(&held), "{\"id\":7,\"held\":false}\n");
    }

    #[test]
    fn a_document_over_several_lines_becomes_one() {
        let raw: Box<serde_json::value::RawValue> = serde_json::from_str("{\r\n \"a\": \"x\\ny\"\n}").unwrap();
        let mut out = b"before\n".to_vec();
        write_line(&raw, &mut out);
        assert_eq!(out, b"before\n{   \"a\": \"x\\ny\" }\n");
    }
}
