//! Checks JSON texts that are stored unchanged.
//!
//! A text that passes means the same to every parser (PostgreSQL's, Python's, ours): keys are unique, numbers are in the range of
//! doubles, PostgreSQL can store the strings, nesting is bounded. This module does not know what a text is for.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::number::{Decimal, numbers};
use tasker_wire::{Fault, fault::pointer, limits};

/// The prefix of keys that serde_json reserves: it reads an object with such a key as something else.
const RESERVED: &str = "$serde_json::private::";

/// Fails with the first fault of a JSON text. Its place is a JSON pointer, or `line:column` of a syntax error.
pub fn check(text: &str) -> Result<(), Fault> {
    faults(text)?.into_iter().next().map_or(Ok(()), Err)
}

/// A text in one form: the same for every order of keys, every spelling of a number and all white space, and different for numbers
/// of different value, however close. [`check`] must have accepted the text.
///
/// # Panics
/// If the text is not JSON.
pub fn canonical(text: &str) -> String {
    let numbers = RefCell::new(numbers(text));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Canonical(&numbers).deserialize(&mut deserializer).expect("the text was checked")
}

/// All faults of a text. An error if it is not JSON or is nested too deeply to read on.
pub(crate) fn faults(text: &str) -> Result<Vec<Fault>, Fault> {
    let found = RefCell::new(Found { refused: refused_numbers(text), ..Found::default() });
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let checker = Checker { path: &Path::Root, depth: 0, found: &found };
    let read = checker.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    let Found { faults, last, place, .. } = found.into_inner();
    match (read, last) {
        (Ok(()), _) => Ok(faults),
        (Err(_), Some(last)) => Err(last),
        (Err(error), None) => Err(unreadable(&error, place.unwrap_or_default())),
    }
}

/// The numbers that are not accepted, by their place in the order of all numbers, and why. serde_json's visitors do not see the digits.
fn refused_numbers(text: &str) -> HashMap<usize, String> {
    let refuse = |(index, number)| Some((index, Decimal::parse(number)?.refuse()?));
    numbers(text).enumerate().filter_map(refuse).collect()
}

/// The fault of a text that is not UTF-8, is not JSON, or has a value that no JSON reader can hold. Only the last has a JSON pointer.
fn unreadable(error: &serde_json::Error, place: String) -> Fault {
    let fault = syntax_fault(error);
    match fault.message.as_str() {
        "number out of range" => Fault::new(place, "is a number beyond the range of a double"),
        m if m.contains("surrogate") || m.contains("hex escape") => Fault::new(place, "contains half of a surrogate pair"),
        _ => fault,
    }
}

/// Moves the position from the message to the place.
fn syntax_fault(error: &serde_json::Error) -> Fault {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let message = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    Fault::new(format!("{line}:{column}"), message)
}

#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    /// The fault that stopped the reading.
    last: Option<Fault>,
    /// Where the parser stopped, as a JSON pointer.
    place: Option<String>,
    /// The numbers that are not accepted; see [`refused_numbers`].
    refused: HashMap<usize, String>,
    /// How many numbers were read.
    numbers: usize,
}

/// The path to a value, borrowed from the stack. The JSON pointer is only built for a fault.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(parent, key) => pointer(&parent.pointer(), key),
            Self::Index(parent, index) => pointer(&parent.pointer(), index),
        }
    }
}

#[derive(Clone, Copy)]
struct Checker<'a> {
    path: &'a Path<'a>,
    depth: usize,
    found: &'a RefCell<Found>,
}

impl Checker<'_> {
    fn note(&self, message: impl Into<String>) {
        self.found.borrow_mut().faults.push(Fault::new(self.path.pointer(), message));
    }

    fn stop<E: de::Error>(&self, message: String) -> E {
        self.found.borrow_mut().last.get_or_insert_with(|| Fault::new(self.path.pointer(), message));
        E::custom("stopped")
    }

    /// Stops reading a document that has too many faults to report.
    fn go_on<E: de::Error>(&self) -> Result<(), E> {
        let found = self.found.borrow().faults.len();
        if found < limits::FAULTS {
            Ok(())
        } else {
            Err(self.stop(format!("follows {found} faults; the rest of the document was not read")))
        }
    }

    fn enter<E: de::Error>(&self) -> Result<(), E> {
        if self.depth < limits::JSON_DEPTH {
            return Ok(());
        }
        Err(self.stop(format!("is nested deeper than {} levels", limits::JSON_DEPTH)))
    }

    fn number(&self) {
        let mut found = self.found.borrow_mut();
        let index = found.numbers;
        found.numbers += 1;
        if let Some(message) = found.refused.remove(&index) {
            found.faults.push(Fault::new(self.path.pointer(), message));
        }
    }

    fn text(&self, text: &str) {
        if text.contains('\0') {
            self.note("contains \\u0000, which cannot be stored");
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checker<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self).inspect_err(|_| {
            // The innermost value reports first.
            self.found.borrow_mut().place.get_or_insert_with(|| self.path.pointer());
        })
    }
}

impl<'de> Visitor<'de> for Checker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.number();
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut index = 0;
        while list.next_element_seed(Checker { path: &Path::Index(self.path, index), depth: self.depth + 1, ..self })?.is_some() {
            index += 1;
            self.go_on()?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut keys: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(key) = object.next_key_seed(Key)? {
            let inner = Checker { path: &Path::Key(self.path, &key), depth: self.depth + 1, ..self };
            inner.text(&key);
            if key.starts_with(RESERVED) {
                inner.note("is a reserved key");
            }
            if keys.contains(&key) {
                inner.note("is a duplicate key");
            }
            object.next_value_seed(inner)?;
            keys.insert(key);
            self.go_on()?;
        }
        Ok(())
    }
}

/// Reads a key. One without escapes is borrowed.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// Writes a value in its canonical form. The numbers are taken from the text, in its order.
struct Canonical<'n, N>(&'n RefCell<N>);

impl<'n, 't, N: Iterator<Item = &'t str>> Canonical<'n, N> {
    fn number<E: de::Error>(self) -> Result<String, E> {
        let number = self.0.borrow_mut().next().and_then(Decimal::parse);
        number.map(|number| number.canonical()).ok_or_else(|| E::custom("a number without digits"))
    }
}

impl<'de, 't, N: Iterator<Item = &'t str>> DeserializeSeed<'de> for Canonical<'_, N> {
    type Value = String;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, 't, N: Iterator<Item = &'t str>> Visitor<'de> for Canonical<'_, N> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        self.number()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        self.number()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        self.number()
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok("null".into())
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(quoted(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<String, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Canonical(self.0))? {
            values.push(value);
        }
        Ok(format!("[{}]", values.join(",")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<String, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(key) = object.next_key_seed(Key)? {
            members.insert(key, object.next_value_seed(Canonical(self.0))?);
        }
        Ok(object_of(members))
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text can be written")
}

/// An object of JSON, whose values are JSON already.
pub(crate) fn object_of<K: AsRef<str>>(members: BTreeMap<K, String>) -> String {
    let members: Vec<_> = members.into_iter().map(|(key, value)| format!("{}:{value}", quoted(key.as_ref()))).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place_of(text: &str) -> String {
        check(text).expect_err(text).place
    }

    #[test]
    fn ordinary_documents_pass() {
        for text in [r#"{"a": [1, -2.5e10, "\ud83d\ude00", null, true, {}], "b": {"a": ""}}"#, "null", " 1 ", r#""x""#] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn broken_syntax_has_a_line_and_a_column() {
        for (text, place) in
            [("", "1:0"), ("{\n  \"a\": }", "2:8"), ("[1,]", "1:4"), ("{} {}", "1:4"), ("nul", "1:3"), ("01", "1:2")]
        {
            assert_eq!(place_of(text), place, "{text}");
        }
    }

    #[test]
    fn what_parsers_disagree_on_is_refused_at_its_pointer() {
        for (text, place, word) in [
            (r#"{"a": {"b": 1, "\u0062": 2}}"#, "/a/b", "duplicate"),
            (r#"{"a": ["x", "\u0000"]}"#, "/a/1", "u0000"),
            (r#"{"a/b": {"~\u0000": 1}}"#, "/a~1b/~0\\u{0}", "u0000"),
            (r#"{"a": {"$serde_json::private::RawValue": "no JSON"}}"#, "/a/$serde_json::private::RawValue", "reserved"),
            (r#"{"a": [0, 1e400]}"#, "/a/1", "range"),
            (r#"{"a": "\ud800"}"#, "/a", "surrogate"),
            (r#"{"a": "\udc00"}"#, "/a", "surrogate"),
            (r#"{"a": "\ud800\u0041"}"#, "/a", "surrogate"),
        ] {
            let fault = check(text).expect_err(text);
            assert_eq!(fault.place, place, "{fault}");
            assert!(fault.message.contains(word), "{fault}");
        }
    }

    #[test]
    fn faults_that_do_not_stop_the_reader_are_all_found() {
        let places: Vec<_> =
            faults(r#"{"a": "\u0000", "b": ["\u0000"], "a": 1}"#).unwrap().into_iter().map(|f| f.place).collect();
        assert_eq!(places, ["/a", "/b/0", "/a"]);
        let many = format!("[{}]", vec![r#""\u0000""#; 100_000].join(","));
        assert!(faults(&many).unwrap_err().message.contains("not read"));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(limits::JSON_DEPTH)), Ok(()));
        assert_eq!(place_of(&nested(limits::JSON_DEPTH + 1)), "/0".repeat(limits::JSON_DEPTH));
        assert_eq!(place_of(&"[".repeat(1_000_000)), "/0".repeat(limits::JSON_DEPTH));
    }

    #[test]
    fn canonical_text_has_sorted_keys_and_exact_numbers() {
        let text = r#"{ "b": [56.0, 1e2, 333333333.33333329, 1000000000000000000001], "\u20ac": "Euro\u000a", "a": {"z": null, "y": false}, "1": -0 }"#;
        let expected =
            r#"{"1":0,"a":{"y":false,"z":null},"b":[56e0,1e2,33333333333333329e-8,1000000000000000000001e0],"€":"Euro\n"}"#;
        assert_eq!(canonical(text), expected);
        assert_eq!(canonical(expected), expected);
    }

    #[test]
    fn numbers_beyond_the_bounds_are_refused_at_their_pointers() {
        let long = format!("1.{}", "3".repeat(limits::NUMBER_DIGITS));
        let text = format!(r#"{{"1": ["2", {long}], "b": {{"c": [1, 2, 1e-400]}}, "d": {long}}}"#);
        let places: Vec<_> = faults(&text).unwrap().into_iter().map(|f| f.place).collect();
        assert_eq!(places, ["/1/1", "/b/c/2", "/d"]);
        let whole = format!("[{}]", "9".repeat(400));
        assert_eq!(check(&whole).unwrap_err().to_string(), "/0: is a number beyond the range of a double");
    }

    proptest! {
        #[test]
        fn junk_never_panics(text in ".*") {
            let _ = check(&text);
        }

        #[test]
        fn almost_json_never_panics(text in r#"([\[\]{}:,0-9eE.\-"a\\u]|\\u0000|\\ud800|null){0,40}"#) {
            if check(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
                prop_assert_eq!(canonical(&canonical(&text)), canonical(&text));
            }
        }
    }
}
