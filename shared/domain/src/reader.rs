//! Reads a JSON object key by key, and collects every fault with its place.
//!
//! A null counts as an absent key: YAML reads an empty value as null, and Tasker's clients send null for an unset value.

use std::{cell::RefCell, collections::BTreeMap, ops::RangeInclusive};

use serde::de::{self, DeserializeOwned, value::StrDeserializer};
use serde_json::Value;

use crate::{did_you_mean, json, near};
use tasker_wire::{Fault, Faults, Json, fault::pointer, limits};

/// The members of an object, each as its JSON.
pub(crate) type Members = BTreeMap<String, Json>;

/// Characters of a faulty text that a message shows.
const SHOWN_CHARS: usize = 80;

/// The findings about an input: faults, one of which is enough to reject it, and notes on keys without effect.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    faults: Vec<Fault>,
    not_shown: usize,
    notes: Vec<(Fault, usize)>,
}

impl Findings {
    pub(crate) fn fault(&mut self, place: impl Into<String>, message: impl Into<String>) {
        if self.faults.len() < limits::FAULTS {
            self.faults.push(Fault::new(place, message));
        } else {
            self.not_shown += 1;
        }
    }

    /// Adds a note. A note with the same text on the same key is only counted.
    pub(crate) fn note(&mut self, place: impl Into<String>, message: &str) {
        let place = place.into();
        let same = |note: &Fault| note.message == message && key_of(&note.place) == key_of(&place);
        match self.notes.iter_mut().find(|(note, _)| same(note)) {
            Some((_, count)) => *count += 1,
            None => self.notes.push((Fault::new(place, message), 1)),
        }
    }

    /// The number of faults that were kept.
    pub(crate) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// The notes, or the faults when there are any.
    ///
    /// Both are sorted by place, so the faults of one step are together.
    pub(crate) fn finish(mut self) -> Result<Vec<Fault>, Faults> {
        self.faults.sort_by_cached_key(|fault| in_order(&fault.place));
        self.notes.sort_by_cached_key(|(note, _)| in_order(&note.place));
        if self.not_shown > 0 {
            self.faults.push(Fault::new("", format!("{} more faults are not shown", self.not_shown)));
        }
        if !self.faults.is_empty() {
            return Err(Faults(self.faults));
        }
        let counted = |(mut note, count): (Fault, usize)| {
            if count > 1 {
                note.message = format!("{} ({count} places)", note.message);
            }
            note
        };
        Ok(self.notes.into_iter().map(counted).collect())
    }
}

/// A sort key for a JSON pointer that compares indexes as numbers.
fn in_order(place: &str) -> Vec<(usize, String)> {
    let token = |token: &str| token.parse().map_or_else(|_| (usize::MAX, token.to_owned()), |index| (index, String::new()));
    place.split('/').map(token).collect()
}

/// The members of the JSON object in a body. Faults of the JSON become findings.
pub(crate) fn members(body: &[u8], findings: &RefCell<Findings>) -> Result<Members, Fault> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Fault::new("", format!("the body is not UTF-8 from byte {} on", error.valid_up_to())))?;
    for Fault { place, message } in json::faults(text)? {
        findings.borrow_mut().fault(place, message);
    }
    serde_json::from_str(text).map_err(|_| Fault::new("", "the body must be a JSON object"))
}

/// An object, its place in the input, and the findings of that input.
pub(crate) struct Object<'f> {
    place: String,
    map: Members,
    known: Vec<&'static str>,
    findings: &'f RefCell<Findings>,
}

impl<'f> Object<'f> {
    pub(crate) fn of_members(map: Members, findings: &'f RefCell<Findings>) -> Self {
        Self { place: String::new(), map, known: Vec::new(), findings }
    }

    /// `None`, with a fault, if the value is not an object.
    pub(crate) fn new(json: Json, place: String, findings: &'f RefCell<Findings>) -> Option<Self> {
        let Ok(map) = serde_json::from_str(json.get()) else {
            findings.borrow_mut().fault(place, format!("must be a map, not {}", kind_of(&json)));
            return None;
        };
        Some(Self { place, map, known: Vec::new(), findings })
    }

    pub(crate) fn place(&self, key: &str) -> String {
        pointer(&self.place, key)
    }

    pub(crate) fn fault(&self, key: &str, message: impl Into<String>) {
        self.findings.borrow_mut().fault(self.place(key), message);
    }

    pub(crate) fn note(&self, key: &str, message: &str) {
        self.findings.borrow_mut().note(self.place(key), message);
    }

    /// Takes out a value as its JSON.
    pub(crate) fn json(&mut self, key: &'static str) -> Option<Json> {
        self.known.push(key);
        self.map.remove(key).filter(|json| json.get() != "null")
    }

    /// Takes out a value that may be null.
    pub(crate) fn any(&mut self, key: &str) -> Option<Json> {
        self.map.remove(key)
    }

    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.json(key).map(|json| json.value())
    }

    /// A value, without taking it out.
    pub(crate) fn peek(&self, key: &str) -> Option<&Json> {
        self.map.get(key).filter(|json| json.get() != "null")
    }

    /// Renames `alias` to `key`. Both together are a fault.
    pub(crate) fn alias(&mut self, alias: &'static str, key: &'static str) {
        let Some(json) = self.json(alias) else { return };
        if self.peek(key).is_some() {
            self.fault(alias, format!("is another name for {key}, which is also present; write {key} alone"));
            return;
        }
        self.map.insert(key.to_owned(), json);
    }

    /// Takes out a known key that has no effect, with a note unless its value is empty.
    pub(crate) fn ignore(&mut self, key: &'static str, note: &str) {
        if self.json(key).is_some_and(|json| !is_empty(&json)) {
            self.note(key, note);
        }
    }

    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        let json = self.json(key)?;
        let text = text_of(&json);
        text.map_err(|message| self.fault(key, message)).ok()
    }

    /// A required string; empty after a fault.
    pub(crate) fn required(&mut self, key: &'static str) -> String {
        if self.peek(key).is_none() {
            self.value(key);
            self.fault(key, "is missing");
            return String::new();
        }
        self.text(key).unwrap_or_default()
    }

    /// A string that `refuse` accepts.
    pub(crate) fn checked(&mut self, key: &'static str, refuse: impl Fn(&str) -> Option<String>) -> Option<String> {
        let text = self.text(key)?;
        match refuse(&text) {
            None => Some(text),
            Some(message) => {
                self.fault(key, message);
                None
            }
        }
    }

    /// A required string that `refuse` accepts; empty after a fault.
    pub(crate) fn required_checked(&mut self, key: &'static str, refuse: impl Fn(&str) -> Option<String>) -> String {
        if self.peek(key).is_none() {
            return self.required(key);
        }
        self.checked(key, refuse).unwrap_or_default()
    }

    pub(crate) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let json = self.json(key)?;
        let flag = serde_json::from_str(json.get()).ok();
        if flag.is_none() {
            self.fault(key, format!("must be true or false, not {}", kind_of(&json)));
        }
        flag
    }

    /// A whole number in a range.
    pub(crate) fn number<N>(&mut self, key: &'static str, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i128> + PartialOrd + Copy + std::fmt::Display,
    {
        let json = self.json(key)?;
        let kind = kind_of(&json);
        let Some(number) = json.get().parse::<i128>().ok().filter(|_| kind == NUMBER) else {
            let found = if kind == NUMBER { shown_number(&json) } else { kind };
            self.fault(key, format!("must be a whole number, not {found}"));
            return None;
        };
        let number = N::try_from(number).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(key, format!("is {}; it must be {} to {}", json.get(), range.start(), range.end()));
        }
        number
    }

    /// A variant of an enum without fields, by its word in serde.
    pub(crate) fn word<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        let read = T::deserialize(StrDeserializer::new(&text));
        read.map_err(|UnknownWord(words)| {
            let near = did_you_mean(&text, words.iter().copied());
            self.fault(key, format!("is {}; it must be one of {}{near}", shown(&text), words.join(", ")));
        })
        .ok()
    }

    pub(crate) fn object(&mut self, key: &'static str) -> Option<Object<'f>> {
        let json = self.json(key)?;
        Object::new(json, self.place(key), self.findings)
    }

    /// An object with any content.
    pub(crate) fn map(&mut self, key: &'static str) -> Members {
        self.object(key).map(|object| object.map).unwrap_or_default()
    }

    /// The objects in an object, by key. A null counts as an empty object.
    pub(crate) fn objects_by_key(&mut self, key: &'static str) -> Vec<(String, Object<'f>)> {
        let Some(object) = self.object(key) else { return Vec::new() };
        let place = object.place;
        let inner = |(key, json): (String, Json)| {
            let place = pointer(&place, &key);
            let object = if json.get() == "null" {
                Object { place, ..Object::of_members(Members::new(), self.findings) }
            } else {
                Object::new(json, place, self.findings)?
            };
            Some((key, object))
        };
        object.map.into_iter().filter_map(inner).collect()
    }

    pub(crate) fn list(&mut self, key: &'static str) -> Vec<Json> {
        let Some(json) = self.json(key) else { return Vec::new() };
        serde_json::from_str(json.get()).unwrap_or_else(|_| {
            self.fault(key, format!("must be a list, not {}", kind_of(&json)));
            Vec::new()
        })
    }

    pub(crate) fn objects(&mut self, key: &'static str) -> Vec<Object<'f>> {
        let list = self.list(key);
        let place = self.place(key);
        list.into_iter().enumerate().filter_map(|(i, json)| Object::new(json, pointer(&place, i), self.findings)).collect()
    }

    /// The strings of a list.
    ///
    /// An empty string replaces one that `refuse` does not accept, so indexes are those of the input.
    pub(crate) fn texts(&mut self, key: &'static str, refuse: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let list = self.list(key);
        let place = self.place(key);
        let checked = |json: &Json| text_of(json).and_then(|text| refuse(&text).map_or(Ok(text), Err));
        let report = |(i, json)| {
            checked(json).unwrap_or_else(|message| {
                self.findings.borrow_mut().fault(pointer(&place, i), message);
                String::new()
            })
        };
        list.iter().enumerate().map(report).collect()
    }

    /// Ends the reading. Every key that was not read may have any value.
    pub(crate) fn rest(self) -> Members {
        self.map
    }

    /// Ends the reading. Every key that was not read is a fault.
    pub(crate) fn close(self) {
        for key in self.map.keys() {
            let message = match key.strip_prefix(':').filter(|key| self.known.contains(key)) {
                Some(key) => format!("unknown key: Ruby symbols are not supported, write {key}"),
                None => match near(key, self.known.iter().copied()) {
                    Some(guess) => format!("unknown key; did you mean {guess}?"),
                    None => format!("unknown key; the known keys are {}", self.known.join(", ")),
                },
            };
            self.fault(key, message);
        }
    }
}

/// serde's error for a text that is no variant of an enum, with the words of all variants.
#[derive(Debug, thiserror::Error)]
#[error("must be one of {0:?}")]
struct UnknownWord(&'static [&'static str]);

impl de::Error for UnknownWord {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, words: &'static [&'static str]) -> Self {
        Self(words)
    }
}

/// A text of an input in quotes. It is escaped, because it goes to terminals and logs, and cut.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// The fault of a text that is not a name.
pub(crate) fn refuse_name(name: &str) -> Option<String> {
    refuse_text(name, limits::NAME_CHARS, &[])
}

/// The fault of a text that is neither a namespace nor the name of a pool.
pub(crate) fn refuse_namespace(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if (1..=limits::NAMESPACE_CHARS).contains(&name.len()) && name.chars().all(allowed) {
        return None;
    }
    Some(format!("is {}; it must be 1 to {} of a-z, 0-9, _ and -", shown(name), limits::NAMESPACE_CHARS))
}

/// The fault of a text that is not one short line.
pub(crate) fn refuse_line(text: &str) -> Option<String> {
    refuse_text(text, limits::TEXT_CHARS, &[])
}

/// The fault of a text that is not a short prose.
pub(crate) fn refuse_prose(text: &str) -> Option<String> {
    refuse_text(text, limits::TEXT_CHARS, &['\n', '\t'])
}

/// The fault of a text that is empty, too long, or contains control characters that are not allowed.
fn refuse_text(text: &str, max_chars: usize, allowed: &[char]) -> Option<String> {
    if text.is_empty() {
        return Some("must not be empty".to_owned());
    }
    let chars = text.chars().count();
    if chars > max_chars {
        return Some(format!("has {chars} characters; at most {max_chars} are allowed"));
    }
    let control = text.chars().find(|c| c.is_control() && !allowed.contains(c))?;
    Some(format!("contains the control character U+{:04X}", u32::from(control)))
}

/// A string, or why the value is none.
fn text_of(json: &Json) -> Result<String, String> {
    serde_json::from_str(json.get()).map_err(|_| format!("must be a string, not {}", kind_of(json)))
}

/// The kind of a number; see [`kind_of`].
pub(crate) const NUMBER: &str = "a number";

/// A number that is not whole, as long as it fits a message.
fn shown_number(json: &Json) -> &str {
    Some(json.get()).filter(|text| text.len() <= SHOWN_CHARS).unwrap_or(NUMBER)
}

/// Whether a value is an empty list or an empty object.
pub(crate) fn is_empty(json: &Json) -> bool {
    let value = json.get();
    (value.starts_with('[') || value.starts_with('{')) && value[1..value.len() - 1].trim().is_empty()
}

pub(crate) fn kind_of(json: &Json) -> &'static str {
    match json.get().as_bytes().first() {
        Some(b'n') => "empty",
        Some(b't' | b'f') => "true or false",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "a map",
        _ => NUMBER,
    }
}

/// The last token of a pointer. Notes about one key are one note, wherever the key is.
fn key_of(place: &str) -> &str {
    place.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value, read: impl FnOnce(&mut Object)) -> Result<Vec<Fault>, Faults> {
        let findings = RefCell::default();
        if let Some(mut object) = Object::new(Json::from(&value), String::new(), &findings) {
            read(&mut object);
            object.close();
        }
        findings.into_inner().finish()
    }

    fn faults(value: Value, f: impl FnOnce(&mut Object)) -> String {
        read(value, f).unwrap_err().to_string()
    }

    #[test]
    fn a_null_is_an_absent_key() {
        let value = json!({"a": null, "b": null, "c": null, "d": null, "e": null});
        let result = read(value, |o| {
            assert_eq!((o.text("a"), o.flag("b"), o.number("c", 1..=2), o.texts("d", refuse_name)), (None, None, None, vec![]));
            assert!(o.object("e").is_none());
        });
        assert_eq!(result, Ok(vec![]));
    }

    #[test]
    fn all_faults_are_found_with_their_places() {
        let value = json!({"a": 1, "b": "x", "c": 3, "d": ["x", 5], "e": [], "g/h": 1, "tetx": 1});
        let faults = faults(value, |o| {
            o.text("a");
            o.flag("b");
            o.number("c", 1..=2);
            o.texts("d", refuse_name);
            o.object("e");
            o.required("f");
            o.text("text");
        });
        let expected = [
            "/a: must be a string, not a number",
            "/b: must be true or false, not a string",
            "/c: is 3; it must be 1 to 2",
            "/d/1: must be a string, not a number",
            "/e: must be a map, not a list",
            "/f: is missing",
            "/g~1h: unknown key; the known keys are a, b, c, d, e, f, text",
            "/tetx: unknown key; did you mean text?",
        ];
        assert_eq!(faults, expected.join("; "));
    }

    #[test]
    fn both_spellings_of_a_key_are_a_fault() {
        assert_eq!(read(json!({"old": 1}), |o| o.alias("old", "new")).unwrap_err().0[0].place, "/new");
        let both = faults(json!({"old": 1, "new": 2}), |o| {
            o.alias("old", "new");
            o.value("new");
        });
        assert_eq!(both, "/old: is another name for new, which is also present; write new alone");
    }

    #[test]
    fn the_same_note_is_counted_and_an_empty_value_has_none() {
        let notes =
            read(json!({"a": 1, "b": 2, "c": []}), |o| ["a", "b", "c"].iter().for_each(|key| o.ignore(key, "is ignored")));
        assert_eq!(notes, Ok(vec![Fault::new("/a", "is ignored"), Fault::new("/b", "is ignored")]));
        let mut findings = Findings::default();
        ["/steps/0/a", "/steps/7/a", "/steps/7/b"].iter().for_each(|place| findings.note(*place, "is ignored"));
        let notes = [Fault::new("/steps/0/a", "is ignored (2 places)"), Fault::new("/steps/7/b", "is ignored")];
        assert_eq!(findings.finish(), Ok(notes.to_vec()));
    }

    #[test]
    fn a_number_beyond_every_integer_is_a_fault() {
        for value in [json!(u64::MAX), json!(i64::MIN), json!(1.5), json!(1e300), json!("1")] {
            assert!(read(json!({ "a": value }), |o| assert_eq!(o.number("a", 0..=10_i32), None)).is_err());
        }
    }

    #[test]
    fn faults_beyond_the_limit_are_counted() {
        let list: Vec<_> = (0..1_000).collect();
        let faults = read(json!({ "a": list }), |o| drop(o.texts("a", refuse_name))).unwrap_err().0;
        assert_eq!(faults.len(), limits::FAULTS + 1);
        assert_eq!(faults[limits::FAULTS].message, "800 more faults are not shown");
    }

    #[test]
    fn texts_at_fault_are_shown_without_control_characters() {
        assert_eq!(shown("a\x1b[31m\n"), r#""a\u{1b}[31m\n""#);
        assert_eq!(shown(&"ä".repeat(100)).chars().count(), SHOWN_CHARS + 3);
        assert!(refuse_name("tab\there").is_some() && refuse_name("quote\"and ü").is_none());
        assert!(refuse_namespace("Upper").is_some() && refuse_namespace("rust_e2e-1").is_none());
    }
}
