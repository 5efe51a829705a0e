//! The keys that a template may have, as the reader of templates answers for each of them. Nothing here lists keys.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tasker_domain::template::parse;
use tasker_wire::Fault;

const UNKNOWN: &str = "unknown_of_ours";
/// A text that is valid as a name and as a version, which are all texts that are required.
const TEXT: &str = "1.0.0";

/// The keys that one kind of object may have.
#[derive(Debug)]
pub struct Object {
    /// Such as `environments.*.steps[].retry`; empty for the file.
    pub path: String,
    /// In the order in which they are read.
    pub keys: Vec<Key>,
    place: Vec<Hop>,
}

#[derive(Debug)]
pub struct Key {
    pub name: String,
    pub kind: Kind,
    pub is_required: bool,
    /// As it is stored if the key is absent.
    pub default: Option<Value>,
    /// What a note says about a value that has no effect.
    pub note: Option<String>,
}

#[derive(Debug, PartialEq)]
pub enum Kind {
    /// Another name for this key.
    Alias(String),
    Text,
    /// One of these texts.
    Words(Vec<String>),
    Flag,
    Number {
        least: String,
        most: String,
    },
    Schema,
    /// A map with these keys, one for each name, or a list of them: this is the path.
    Object(String),
    Map,
    Texts,
    List,
    /// The value is not looked at.
    Any,
}

/// From an object to one within it.
#[derive(Debug, Clone)]
enum Hop {
    Key(String),
    /// The first of a list.
    First,
    /// Under any name.
    Named,
}

/// Every object of a template, each after the one that it is in.
pub fn objects() -> Vec<Object> {
    let mut objects = Vec::new();
    read_object(Vec::new(), &mut objects);
    objects
}

fn read_object(place: Vec<Hop>, objects: &mut Vec<Object>) {
    let faults = faults(&place, json!({ UNKNOWN: 1 }));
    let known = faults.iter().find(|fault| fault.place == pointer(&place, UNKNOWN)).map(|fault| fault.message.clone()).unwrap();
    let names: Vec<&str> = known.split_once("the known keys are ").expect("all are named").1.split(", ").collect();
    let at = objects.len();
    objects.push(Object { path: path(&place), keys: Vec::new(), place: place.clone() });
    for name in names {
        let mut inner = place.clone();
        inner.push(Hop::Key(name.to_owned()));
        let forms: [&[Hop]; 3] = [&[], &[Hop::First], &[Hop::Named]];
        let inner = forms.into_iter().map(|form| [&inner[..], form].concat()).find(|inner| is_object(inner));
        let kind = match inner {
            Some(inner) => {
                let kind = Kind::Object(path(&inner));
                read_object(inner, objects);
                kind
            }
            None => kind(&place, name),
        };
        let is_required = is_required(&place, name);
        objects[at].keys.push(Key { name: name.to_owned(), kind, is_required, default: None, note: None });
    }
    if place.is_empty() {
        fill_in(objects);
    }
}

fn is_object(place: &[Hop]) -> bool {
    let is_refused = |fault: &Fault| fault.place == pointer(place, UNKNOWN) && fault.message.starts_with("unknown key");
    faults(place, json!({ UNKNOWN: 1 })).iter().any(is_refused)
}

/// What the reader says only about this value of the key.
fn said(place: &[Hop], key: &str, value: Value) -> Vec<Fault> {
    let without: BTreeSet<String> = faults(place, json!({})).iter().map(ToString::to_string).collect();
    let mut with = faults(place, json!({ key: value }));
    with.retain(|fault| !without.contains(&fault.to_string()));
    with
}

fn kind(place: &[Hop], key: &str) -> Kind {
    let of_key = pointer(place, key);
    let about = |value: Value| said(place, key, value).into_iter().find(|fault| fault.place == of_key).map(|fault| fault.message);
    let of_list = said(place, key, json!([[]]));
    let message = match &of_list[..] {
        [] if about(json!(true)).is_some() => return Kind::List,
        [] => return Kind::Any,
        [fault] if fault.place == of_key => &fault.message,
        [fault] if fault.place == format!("{of_key}/0") => return Kind::Texts,
        [fault] => {
            let other = fault.place.strip_prefix(&pointer(place, "")).unwrap_or_else(|| panic!("{fault}"));
            return Kind::Alias(other.split('/').next().unwrap().to_owned());
        }
        faults => panic!("{of_key}: {faults:?}"),
    };
    let expected = message.strip_prefix("must be ").and_then(|message| message.strip_suffix(", not a list"));
    match expected {
        Some("true or false") => Kind::Flag,
        Some("a map") => Kind::Map,
        Some("a whole number") => {
            let (_, range) = about(json!(-1)).expect("below each range").split_once("it must be ").map(own).unwrap();
            let (least, most) = range.split_once(" to ").map(own).unwrap();
            Kind::Number { least, most }
        }
        Some("a string") => match about(json!(UNKNOWN)).as_deref().and_then(|message| message.split_once("must be one of ")) {
            Some((_, words)) => Kind::Words(words.split(", ").map(str::to_owned).collect()),
            None => Kind::Text,
        },
        _ if message.starts_with("is not a JSON Schema") => Kind::Schema,
        _ => panic!("{of_key}: {message}"),
    }
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

fn is_required(place: &[Hop], key: &str) -> bool {
    faults(place, json!({})).iter().any(|fault| fault.place == pointer(place, key) && fault.message.starts_with("is missing"))
}

/// The defaults and notes, which only a valid template shows.
fn fill_in(objects: &mut [Object]) {
    for at in 0..objects.len() {
        let place = objects[at].place.clone();
        let (template, _) = parse(&file(&place, least(objects, at), Some(objects)).to_string()).unwrap();
        let stored = serde_json::to_value(template).unwrap();
        for key in 0..objects[at].keys.len() {
            let Key { name, kind, .. } = &objects[at].keys[key];
            let of_key = pointer(&place, name);
            let mut object = least(objects, at);
            let value = some(objects, kind);
            object.as_object_mut().unwrap().insert(name.clone(), value);
            // A namespace is no such text, and has an effect.
            let notes = parse(&file(&place, object, Some(objects)).to_string()).map(|(_, notes)| notes).unwrap_or_default();
            let note = notes.into_iter().find(|note| note.place == of_key).map(|note| note.message);
            let is_given = objects[at].keys[key].is_required;
            let default = stored
                .pointer(&of_key)
                .filter(|value| !is_given && (value.is_string() || value.is_number() || value.is_boolean()));
            objects[at].keys[key].default = default.cloned();
            objects[at].keys[key].note = note;
        }
    }
}

/// The smallest valid object.
fn least(objects: &[Object], at: usize) -> Value {
    let required = objects[at].keys.iter().filter(|key| key.is_required);
    Value::Object(required.map(|key| (key.name.clone(), some(objects, &key.kind))).collect())
}

/// A valid value.
fn some(objects: &[Object], kind: &Kind) -> Value {
    match kind {
        Kind::Alias(_) => json!(null),
        Kind::Text => json!(TEXT),
        Kind::Words(words) => json!(words[0]),
        Kind::Flag => json!(true),
        Kind::Number { least, .. } => json!(least.parse::<u64>().unwrap() + 1),
        Kind::Schema => json!({}),
        Kind::Map | Kind::Any => json!({"k": 1}),
        Kind::Texts => json!([]),
        Kind::List => json!([1]),
        Kind::Object(path) => {
            let at = objects.iter().position(|object| object.path == *path).unwrap();
            let hops = objects[at].place.iter().rev().take_while(|hop| !matches!(hop, Hop::Key(_)));
            hops.fold(least(objects, at), |inner, hop| within(hop, inner))
        }
    }
}

fn within(hop: &Hop, inner: Value) -> Value {
    match hop {
        Hop::Key(key) => json!({ key: inner }),
        Hop::First => json!([inner]),
        Hop::Named => json!({"e": inner}),
    }
}

/// A file with this object at its place. With `objects`, all around it is valid.
fn file(place: &[Hop], object: Value, objects: Option<&[Object]>) -> Value {
    let mut value = object;
    for (at, hop) in place.iter().enumerate().rev() {
        value = within(hop, value);
        if let (Some(objects), Hop::Key(key)) = (objects, hop) {
            let around = objects.iter().position(|object| object.path == path(&place[..at])).unwrap();
            let mut around = least(objects, around);
            around[key] = value[key].take();
            value = around;
        }
    }
    value
}

fn faults(place: &[Hop], object: Value) -> Vec<Fault> {
    parse(&file(place, object, None).to_string()).map(|_| Vec::new()).unwrap_or_else(|faults| faults.0)
}

fn pointer(place: &[Hop], key: &str) -> String {
    let token = |hop: &Hop| match hop {
        Hop::Key(key) => format!("/{key}"),
        Hop::First => "/0".to_owned(),
        Hop::Named => "/e".to_owned(),
    };
    format!("{}/{key}", place.iter().map(token).collect::<String>())
}

fn path(place: &[Hop]) -> String {
    let token = |hop: &Hop| match hop {
        Hop::Key(key) => format!(".{key}"),
        Hop::First => "[]".to_owned(),
        Hop::Named => ".*".to_owned(),
    };
    place.iter().map(token).collect::<String>().trim_start_matches('.').to_owned()
}
