//! Reads what the success of a decider asks for, in our own shapes and in those of Tasker Core. It does not know the workflow.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    json,
    reader::{Findings, Members, NUMBER, Object, kind_of, refuse_name, shown},
};
use tasker_wire::{Fault, Json, Outcome, fault::pointer, limits};

/// What an outcome says in one place. Places are JSON pointers into the success.
pub(super) struct Said {
    place: String,
    json: Json,
    is_own: bool,
}

/// What a decision says, at most once in each shape.
pub(super) fn said_by_decision(outcome: &Outcome) -> Result<Vec<Said>, Fault> {
    let Outcome::Success { result, decision, .. } = outcome else { return Ok(Vec::new()) };
    said(("/decision", decision.as_deref()), (result, "decision_point_outcome"))
}

/// What a batchable step says, at most once in each shape.
pub(super) fn said_by_batchable(outcome: &Outcome) -> Result<Vec<Said>, Fault> {
    let Outcome::Success { result, batches, .. } = outcome else { return Ok(Vec::new()) };
    said(("/batches", batches.as_deref()), (result, BATCH_OUTCOME))
}

fn said((place, own): (&str, Option<&RawValue>), (result, key): (&RawValue, &str)) -> Result<Vec<Said>, Fault> {
    let mut all = Vec::new();
    if let Some(own) = own {
        refuse_text(own.get()).map_err(|fault| Fault { place: format!("{place}{}", fault.place), ..fault })?;
        all.push(Said { place: place.to_owned(), json: own.to_owned().into(), is_own: true });
    }
    if let Some(in_result) = borrowed(result).remove(key).filter(|json| json.get() != "null") {
        all.push(Said { place: format!("/result/{key}"), json: in_result.to_owned().into(), is_own: false });
    }
    Ok(all)
}

/// The result was checked as a result.
fn refuse_text(own: &str) -> Result<(), Fault> {
    if own.len() > limits::RESULT_BYTES {
        return Err(Fault::new("", format!("has {} bytes; at most {} are read", own.len(), limits::RESULT_BYTES)));
    }
    json::check(own)
}

/// The members of an object, or none of another value.
fn borrowed(json: &RawValue) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(json.get()).unwrap_or_default()
}

/// The steps that a decision names, in its order, and the place of the list.
pub(super) struct Names {
    pub place: String,
    pub names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum DecisionType {
    CreateSteps,
    NoBranches,
}

impl Names {
    pub fn read(said: Said, findings: &RefCell<Findings>) -> Self {
        let key = if said.is_own { "create" } else { "step_names" };
        let place = pointer(&said.place, key);
        let none = Self { place: place.clone(), names: Vec::new() };
        let Some(mut object) = Object::new(said.json, said.place, findings) else { return none };
        if !said.is_own {
            require(&mut object, "type");
            let kind = object.word("type");
            if let Some(DecisionType::NoBranches) = kind {
                refuse_items(&mut object, key, "no_branches");
            }
            if let Some(DecisionType::NoBranches) | None = kind {
                return none;
            }
        }
        if !is_list_within(&mut object, key, limits::STEPS) {
            return none;
        }
        Self { place, names: object.texts(key, refuse_name) }
    }
}

/// What a batchable step asks for.
pub(super) enum Batches {
    /// There is no work, as this place says. See [`Batch::no_op_worker`](crate::template::Batch::no_op_worker).
    NoWork(String),
    /// A worker for each cursor.
    Cursors {
        /// The pattern that the outcome names, and where.
        pattern: Option<(String, String)>,
        /// The place of the list.
        place: String,
        cursors: Vec<Cursor>,
    },
}

/// A worker's part of the work.
pub(super) struct Cursor {
    pub batch_id: String,
    /// As the worker reads it: `batch_id`, `start_cursor`, `end_cursor`, `batch_size`, and whatever else was given.
    pub members: Members,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum BatchType {
    CreateBatches,
    NoBatches,
}

const BATCH_OUTCOME: &str = "batch_processing_outcome";
const CURSORS: &str = "cursor_configs";
const NO_BATCHES: &str = r#""no_batches""#;

impl Batches {
    pub fn read(said: Said, findings: &RefCell<Findings>) -> Self {
        let (pattern_key, key) = if said.is_own { ("worker_template", "cursors") } else { ("worker_template_name", CURSORS) };
        let place = pointer(&said.place, key);
        let nothing = Self::Cursors { pattern: None, place: place.clone(), cursors: Vec::new() };
        // Tasker Core takes the mere text in a result for no outcome, and its tests rely on it.
        if said.json.get() == NO_BATCHES {
            return if said.is_own { Self::NoWork(said.place) } else { nothing };
        }
        let said_place = said.place.clone();
        let pattern_place = pointer(&said.place, pattern_key);
        let Some(mut object) = Object::new(said.json, said.place, findings) else { return nothing };
        if !said.is_own {
            require(&mut object, "type");
        }
        match object.word("type") {
            Some(BatchType::NoBatches) => {
                refuse_items(&mut object, key, "no_batches");
                return Self::NoWork(said_place);
            }
            None if !said.is_own => return nothing,
            Some(BatchType::CreateBatches) | None => {}
        }
        let pattern = object.text(pattern_key).map(|name| (name, pattern_place));
        if !is_list_within(&mut object, key, limits::MADE_STEPS) {
            return nothing;
        }
        let positions = if said.is_own { ["start", "end"] } else { ["start_cursor", "end_cursor"] };
        let cursors = object.objects(key).into_iter().map(|cursor| Cursor::read(cursor, positions)).collect();
        Self::Cursors { pattern, place, cursors }
    }
}

impl Cursor {
    fn read(mut object: Object, positions: [&str; 2]) -> Self {
        let batch_id = batch_id(&mut object);
        let size = object.number("batch_size", 0..=u64::MAX);
        let [start, end] = positions.map(|key| {
            object.any(key).unwrap_or_else(|| {
                object.fault(key, "is missing");
                json_of(&0)
            })
        });
        let size = size.unwrap_or_else(|| range(&start, &end));
        let mut members = object.rest();
        let known =
            [("batch_id", json_of(&batch_id)), ("start_cursor", start), ("end_cursor", end), ("batch_size", json_of(&size))];
        members.extend(known.map(|(key, json)| (key.to_owned(), json)));
        Self { batch_id, members }
    }

    /// The cursor of a worker that has nothing to do.
    pub fn of_nothing() -> Self {
        let members = [
            ("batch_id", json_of(&"000")),
            ("start_cursor", json_of(&0)),
            ("end_cursor", json_of(&0)),
            ("batch_size", json_of(&0)),
        ];
        Self { batch_id: "000".to_owned(), members: members.map(|(key, json)| (key.to_owned(), json)).into() }
    }
}

/// The id, of which a number counts as its text; empty after a fault.
fn batch_id(cursor: &mut Object) -> String {
    if cursor.peek("batch_id").is_some_and(|json| kind_of(json) == NUMBER)
        && let Some(number) = cursor.any("batch_id")
    {
        let refusal = refuse_batch_id(number.get());
        refusal.into_iter().for_each(|message| cursor.fault("batch_id", message));
        return number.get().to_owned();
    }
    cursor.required_checked("batch_id", refuse_batch_id)
}

fn refuse_batch_id(id: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if (1..=limits::BATCH_ID_CHARS).contains(&id.len()) && id.chars().all(allowed) {
        return None;
    }
    Some(format!("is {}; it must be 1 to {} of A-Z, a-z, 0-9, _, . and -", shown(id), limits::BATCH_ID_CHARS))
}

/// The number of items between two whole numbers; 0 between other positions.
fn range(start: &Json, end: &Json) -> u64 {
    let whole = |position: &Json| position.get().parse::<i128>().ok();
    let size = whole(start).zip(whole(end)).map(|(start, end)| end.saturating_sub(start));
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)
}

fn require(object: &mut Object, key: &'static str) {
    if object.peek(key).is_none() {
        object.fault(key, "is missing");
    }
}

/// Nothing is made, and so nothing may be listed.
fn refuse_items(object: &mut Object, key: &'static str, kind: &str) {
    let length =
        object.peek(key).and_then(|list| serde_json::from_str::<Vec<IgnoredAny>>(list.get()).ok()).map_or(0, |l| l.len());
    if length > 0 {
        object.fault(key, format!("lists {length}, but the type is {kind}, which makes nothing; leave out one of the two"));
    }
}

/// Whether the list is there and short enough. A long one is counted, not read.
fn is_list_within(object: &mut Object, key: &'static str, most: usize) -> bool {
    let Some(list) = object.peek(key) else {
        object.fault(key, "is missing");
        return false;
    };
    let length = serde_json::from_str::<Vec<IgnoredAny>>(list.get()).map_or(0, |items| items.len());
    if length > most {
        object.fault(key, format!("has {length} items; at most {most} are allowed"));
    }
    length <= most
}

/// The result without the cursors in it; none if it has no cursors. As the result of a parent they would be sent to every worker.
pub(super) fn without_cursors(result: &RawValue) -> Option<Box<RawValue>> {
    let mut members = borrowed(result);
    let mut outcome = borrowed(members.get(BATCH_OUTCOME)?);
    outcome.remove(CURSORS)?;
    let outcome = json_of(&outcome);
    let outcome: Box<RawValue> = outcome.into();
    members.insert(BATCH_OUTCOME.to_owned(), &outcome);
    Some(json_of(&members).into())
}

fn json_of(value: &impl serde::Serialize) -> Json {
    serde_json::value::to_raw_value(value).expect("texts, numbers and JSON are JSON").into()
}
