//! Describes a dead letter without trusting its content: its kind, its reason, and a fingerprint that similar ones share.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tasker_aws::{REASON, SqsMessage};
use tasker_wire::StepId;
use uuid::Uuid;

const TASK_REQUEST: &str = "task request";

#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// The dead-letter queue.
    pub queue: String,
    /// The id that SQS gave the message; a redrive gives it a new one.
    pub message_id: String,
    /// See [`kind_of`].
    pub kind: &'static str,
    pub reason: String,
    /// Equal for dead letters of one kind whose reasons differ only in numbers and ids.
    pub fingerprint: String,
    pub task_id: Option<Uuid>,
    pub step_id: Option<Uuid>,
    /// The step's name, which only a `RunStep` contains.
    pub step: Option<String>,
    /// Only a `RunStep` and a task request contain one.
    pub namespace: Option<String>,
    /// When the message was first sent.
    pub sent_at: Option<Timestamp>,
    pub age_seconds: Option<i64>,
    /// Approximate; includes the receives of operators.
    pub receives: u32,
}

impl DeadLetter {
    pub fn new(queue: &str, message: &SqsMessage, now: Timestamp) -> Self {
        let body: Value = serde_json::from_str(&message.body).unwrap_or_default();
        let kind = kind_of(&body);
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let id = |key: &str| text(key).and_then(|text| text.parse::<Uuid>().ok());
        let step_id = id("step_id");
        let task_id = id("task_id").or_else(|| step_id.map(|step| StepId::from_uuid(step).task.uuid()));
        let default = (kind == TASK_REQUEST).then_some("default");
        let reason = reason(message);
        let sent_at = message.sent_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Self {
            fingerprint: fingerprint(kind, &reason),
            namespace: text("namespace").or(message.group.as_deref()).or(default).map(str::to_owned),
            step: text("step_name").map(str::to_owned),
            age_seconds: sent_at.map(|sent| now.duration_since(sent).as_secs().max(0)),
            queue: queue.to_owned(),
            message_id: message.id.clone(),
            receives: message.receives,
            kind,
            reason,
            task_id,
            step_id,
            sent_at,
        }
    }

    /// The step's name, or else its id.
    pub fn step_shown(&self) -> String {
        self.step.clone().or_else(|| self.step_id.map(|id| id.to_string())).unwrap_or_default()
    }
}

/// The kind of a message by its shape, because a malformed message still resembles its kind.
fn kind_of(body: &Value) -> &'static str {
    let has = |key| body.get(key).is_some();
    match () {
        () if has("outcome") => "CompleteStep",
        () if has("handler") || has("step_name") => "RunStep",
        () if has("step_id") => "Evaluate",
        () if has("name") || has("context") => TASK_REQUEST,
        () => "unreadable",
    }
}

/// If SQS gave the message up, an earlier reason in its attributes is not the cause.
fn reason(message: &SqsMessage) -> String {
    match (&message.given_up_by, message.attribute(REASON)) {
        (Some(queue), _) => format!("moved by the redrive policy: received from {queue} up to its limit without success"),
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => format!("received {} times without success", message.receives),
    }
}

fn fingerprint(kind: &str, reason: &str) -> String {
    let hash = Sha256::new().chain_update(kind).chain_update([0]).chain_update(pattern(reason)).finalize();
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// A reason with its numbers and ids replaced by `#`. An id is a word with a digit that consists of hexadecimal digits and hyphens.
fn pattern(reason: &str) -> String {
    let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    let replaced = reason.split_inclusive(is_end).flat_map(|piece| {
        let (word, end) = piece.split_at(piece.find(is_end).unwrap_or(piece.len()));
        let is_id = word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        [if is_id { "#" } else { word }, end]
    });
    replaced.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: &str = "01990000-0000-7000-8000-000000000000";
    const STEP: &str = "01990000-0000-7000-8000-000000004000";

    fn message(body: &Value) -> SqsMessage {
        SqsMessage { id: "m".into(), body: body.to_string(), sent_ms: Some(0), receives: 3, ..SqsMessage::default() }
    }

    fn described(message: &SqsMessage) -> DeadLetter {
        DeadLetter::new("shop-intake-dlq", message, Timestamp::from_second(90).unwrap())
    }

    #[test]
    fn a_dead_letter_is_known_by_its_shape_although_it_cannot_be_read() {
        for (body, kind) in [
            (json!({"v": 1, "step_id": STEP, "step_name": "a", "handler": "no object"}), "RunStep"),
            (json!({"v": 1, "step_id": STEP, "outcome": 7}), "CompleteStep"),
            (json!({"v": 1, "step_id": STEP, "lease": "x"}), "Evaluate"),
            (json!({"name": "order", "context": {}}), TASK_REQUEST),
            (json!({"hello": 1}), "unreadable"),
            (json!([1]), "unreadable"),
            (json!("x"), "unreadable"),
        ] {
            assert_eq!(described(&message(&body)).kind, kind, "{body}");
        }
        let no_json = SqsMessage { body: "{".repeat(100_000), ..SqsMessage::default() };
        assert_eq!(described(&no_json).kind, "unreadable");
    }

    #[test]
    fn a_step_says_its_task_and_a_request_its_namespace() {
        let shown = described(&message(&json!({"step_id": STEP, "step_name": "charge", "handler": {}, "namespace": "shop"})));
        assert_eq!(shown.task_id.unwrap().to_string(), TASK);
        assert_eq!(
            (shown.step_shown().as_str(), shown.namespace.as_deref(), shown.age_seconds),
            ("charge", Some("shop"), Some(90))
        );
        let shown = described(&message(&json!({"step_id": STEP, "outcome": {}})));
        assert_eq!((shown.step_shown().as_str(), shown.namespace), (STEP, None));
        let shown = described(&message(&json!({"name": "order"})));
        assert_eq!((shown.task_id, shown.namespace.as_deref()), (None, Some("default")));
    }

    #[test]
    fn an_old_reason_is_ignored_if_sqs_moved_the_message() {
        let buried = message(&json!({})).with(REASON, "it is no JSON");
        assert_eq!(described(&buried).reason, "it is no JSON");
        let given_up = SqsMessage { given_up_by: Some("shop-intake".into()), ..buried };
        assert!(described(&given_up).reason.starts_with("moved by the redrive policy: "));
        assert_eq!(described(&message(&json!({}))).reason, "received 3 times without success");
    }

    #[test]
    fn dead_letters_of_one_kind_and_reason_have_one_fingerprint() {
        let print = |kind, reason| fingerprint(kind, reason);
        let one = print("CompleteStep", "no field `v` at line 1 column 345");
        assert_eq!(one, print("CompleteStep", "no field `v` at line 1 column 9"));
        assert_ne!(one, print("RunStep", "no field `v` at line 1 column 345"));
        assert_ne!(one, print("CompleteStep", "no field `lease` at line 1 column 345"));
        assert_eq!(pattern(&format!("step {STEP} of v2, 3.5 a-b face")), "step # of v2, #.# a-b face");
        assert_eq!(one, "83bbf519", "scripts keep fingerprints: they must not change");
    }
}
