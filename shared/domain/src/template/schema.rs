//! JSON Schemas of templates. A schema refers only to itself; nothing is fetched.

use jsonschema::{ValidationError, Validator, paths::LocationSegment};
use serde_json::Value;

use tasker_wire::{Fault, Json, fault::pointer, limits};

/// Characters kept of the schema library's message, which may quote a whole document.
const MESSAGE_CHARS: usize = 300;

/// Compiles a schema. The places of its faults begin with `place`. It compares integers of 64 bits exactly, and other numbers as
/// doubles.
pub(super) fn compile(schema: &Json, place: &str) -> Result<Validator, Vec<Fault>> {
    let schema = schema.value();
    jsonschema::options().offline().build(&schema).map_err(|first| {
        // The library returns the first error only; the meta-schema finds all of them.
        let mut faults: Vec<Fault> = match jsonschema::meta::validator_for(&schema) {
            Ok(meta) => meta.iter_errors(&schema).take(limits::FAULTS).map(|error| fault(&error, place)).collect(),
            Err(_) => Vec::new(),
        };
        if faults.is_empty() {
            faults.push(fault(&first, place));
        }
        faults.dedup();
        faults
    })
}

/// Where an instance at `place` does not match a schema, and why.
pub(super) fn mismatches(schema: &Validator, instance: &Value, place: &str) -> Vec<Fault> {
    let fault = |error: ValidationError| Fault::new(place_of(&error, place), abridged(&error));
    schema.iter_errors(instance).take(limits::FAULTS).map(fault).collect()
}

fn fault(error: &ValidationError, place: &str) -> Fault {
    Fault::new(place_of(error, place), format!("is not a JSON Schema: {}", abridged(error)))
}

fn place_of(error: &ValidationError, within: &str) -> String {
    error.instance_path().iter().fold(within.to_owned(), |place, segment| match segment {
        LocationSegment::Property(name) => pointer(&place, name),
        LocationSegment::Index(index) => pointer(&place, index),
    })
}

fn abridged(error: &ValidationError) -> String {
    let message: String = error.to_string().chars().take(MESSAGE_CHARS + 1).collect();
    match message.char_indices().nth(MESSAGE_CHARS) {
        None => message,
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}
