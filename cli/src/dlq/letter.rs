//! What can be told of a dead letter without believing it: what it looks like, why it is dead, and which others died alike.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tasker_aws::{REASON, SqsMessage};
use tasker_wire::StepId;
use uuid::Uuid;

/// What a message is, by its shape: one that is malformed still looks like what it was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Kind {
    /// To a worker: run this step.
    RunStep,
    /// From a worker: what came of a step.
    CompleteStep,
    /// To the orchestrator: a retry is due.
    Evaluate,
    /// A request for a task.
    #[serde(rename = "task request")]
    TaskRequest,
    /// None of them.
    #[serde(rename = "unreadable")]
    Unreadable,
}

impl Kind {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::RunStep => "RunStep",
            Self::CompleteStep => "CompleteStep",
            Self::Evaluate => "Evaluate",
            Self::TaskRequest => "task request",
            Self::Unreadable => "unreadable",
        }
    }

    fn of(body: &Value) -> Self {
        let has = |key| body.get(key).is_some();
        match () {
            () if has("outcome") => Self::CompleteStep,
            () if has("handler") || has("step_name") => Self::RunStep,
            () if has("step_id") => Self::Evaluate,
            () if has("name") || has("context") => Self::TaskRequest,
            () => Self::Unreadable,
        }
    }
}

/// A letter on one line.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The dead-letter queue.
    pub queue: String,
    /// SQS's own.
    pub message_id: String,
    /// By its shape.
    pub kind: Kind,
    /// Why it is dead.
    pub reason: String,
    /// The same for letters of one kind that are dead for one reason, but for the numbers and ids in it.
    pub fingerprint: String,
    /// Of what it is about, if it says so.
    pub task_id: Option<Uuid>,
    /// Likewise.
    pub step_id: Option<Uuid>,
    /// The step's name; only a `RunStep` says it.
    pub step: Option<String>,
    /// Only a `RunStep` and a request say it.
    pub namespace: Option<String>,
    /// When it was first sent.
    pub sent_at: Option<Timestamp>,
    /// Since then.
    pub age_seconds: Option<i64>,
    /// About, and with those of whoever looked at it.
    pub receives: u32,
}

impl Summary {
    /// Of a letter in a queue.
    pub fn of(queue: &str, letter: &SqsMessage, now: Timestamp) -> Self {
        let body: Value = serde_json::from_str(&letter.body).unwrap_or_default();
        let kind = Kind::of(&body);
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let id = |key: &str| text(key).and_then(|text| text.parse::<Uuid>().ok());
        let step_id = id("step_id");
        let task_id = id("task_id").or_else(|| step_id.map(|step| StepId::from_uuid(step).task.uuid()));
        let default = (kind == Kind::TaskRequest).then_some("default");
        let reason = reason(letter);
        let sent_at = letter.sent_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Self {
            fingerprint: fingerprint(kind, &reason),
            namespace: text("namespace").or(letter.group.as_deref()).or(default).map(str::to_owned),
            step: text("step_name").map(str::to_owned),
            age_seconds: sent_at.map(|sent| now.duration_since(sent).as_secs().max(0)),
            queue: queue.to_owned(),
            message_id: letter.id.clone(),
            receives: letter.receives,
            kind,
            reason,
            task_id,
            step_id,
            sent_at,
        }
    }

    /// The step as people know it.
    pub fn step_shown(&self) -> String {
        self.step.clone().or_else(|| self.step_id.map(|id| id.to_string())).unwrap_or_default()
    }
}

/// A reason belongs to the death that it was given for: what SQS gave up later died of something else.
fn reason(letter: &SqsMessage) -> String {
    match (&letter.given_up_by, letter.attribute(REASON)) {
        (Some(queue), _) => format!("came by redrive: received again and again from {queue} without success"),
        (None, Some(reason)) => reason.to_owned(),
        (None, None) => format!("received {} times without success", letter.receives),
    }
}

fn fingerprint(kind: Kind, reason: &str) -> String {
    let hash = Sha256::new().chain_update(kind.name()).chain_update([0]).chain_update(pattern(reason)).finalize();
    hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// A reason without what differs from letter to letter: a number, or a word with a digit in it that only hexadecimal digits and hyphens
/// are in, becomes one mark.
fn pattern(reason: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let (mut pattern, mut word) = (String::new(), String::new());
    for c in reason.chars().chain(['\0']) {
        if is_part(c) {
            word.push(c);
            continue;
        }
        let is_id = word.contains(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        pattern.push_str(if is_id { "#" } else { &word });
        word.clear();
        pattern.push(c);
    }
    pattern.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TASK: &str = "01990000-0000-7000-8000-000000000000";
    const STEP: &str = "01990000-0000-7000-8000-000000004000";

    fn letter(body: &Value) -> SqsMessage {
        SqsMessage { id: "m".into(), body: body.to_string(), sent_ms: Some(0), receives: 3, ..SqsMessage::default() }
    }

    fn summary(letter: &SqsMessage) -> Summary {
        Summary::of("shop-intake-dlq", letter, Timestamp::from_second(90).unwrap())
    }

    #[test]
    fn a_letter_is_known_by_its_shape_although_it_cannot_be_read() {
        for (body, kind) in [
            (json!({"v": 1, "step_id": STEP, "step_name": "a", "handler": "no object"}), Kind::RunStep),
            (json!({"v": 1, "step_id": STEP, "outcome": 7}), Kind::CompleteStep),
            (json!({"v": 1, "step_id": STEP, "lease": "x"}), Kind::Evaluate),
            (json!({"name": "order", "context": {}}), Kind::TaskRequest),
            (json!({"hello": 1}), Kind::Unreadable),
            (json!([1]), Kind::Unreadable),
            (json!("x"), Kind::Unreadable),
        ] {
            assert_eq!(summary(&letter(&body)).kind, kind, "{body}");
        }
        let no_json = SqsMessage { body: "{".repeat(100_000), ..SqsMessage::default() };
        assert_eq!(summary(&no_json).kind, Kind::Unreadable);
    }

    #[test]
    fn a_step_says_its_task_and_a_request_its_namespace() {
        let told = summary(&letter(&json!({"step_id": STEP, "step_name": "charge", "handler": {}, "namespace": "shop"})));
        assert_eq!(told.task_id.unwrap().to_string(), TASK);
        assert_eq!((told.step_shown().as_str(), told.namespace.as_deref(), told.age_seconds), ("charge", Some("shop"), Some(90)));
        let told = summary(&letter(&json!({"step_id": STEP, "outcome": {}})));
        assert_eq!((told.step_shown().as_str(), told.namespace), (STEP, None));
        let told = summary(&letter(&json!({"name": "order"})));
        assert_eq!((told.task_id, told.namespace.as_deref()), (None, Some("default")));
    }

    #[test]
    fn what_sqs_gave_up_did_not_die_of_an_earlier_reason() {
        let buried = letter(&json!({})).with(REASON, "it is no JSON");
        assert_eq!(summary(&buried).reason, "it is no JSON");
        let given_up = SqsMessage { given_up_by: Some("shop-intake".into()), ..buried };
        assert!(summary(&given_up).reason.starts_with("came by redrive: "));
        assert_eq!(summary(&letter(&json!({}))).reason, "received 3 times without success");
    }

    #[test]
    fn letters_that_died_alike_have_one_fingerprint() {
        let print = |kind, reason| fingerprint(kind, reason);
        let one = print(Kind::CompleteStep, "no field `v` at line 1 column 345");
        assert_eq!(one, print(Kind::CompleteStep, "no field `v` at line 1 column 9"));
        assert_ne!(one, print(Kind::RunStep, "no field `v` at line 1 column 345"));
        assert_ne!(one, print(Kind::CompleteStep, "no field `lease` at line 1 column 345"));
        assert_eq!(pattern(&format!("step {STEP} of v2, 3.5 a-b face")), "step # of v2, #.# a-b face");
        assert_eq!(one, "83bbf519", "scripts keep fingerprints: they must not change");
    }
}
