//! Reads requests about DLQ entries: the bodies of an investigation and of a recovery. All faults are reported at once.

use std::cell::RefCell;

use serde_json::value::RawValue;
use tasker_wire::{
    Faults, limits,
    rest::{DlqFilter, DlqStatus},
};
use uuid::Uuid;

use crate::reader::{Findings, Object, members, refuse_line, refuse_name, refuse_namespace, refuse_prose};

/// What an investigation found. What is `None` stays as it is.
#[derive(Debug)]
pub struct Investigation {
    pub status: Option<DlqStatus>,
    pub notes: Option<String>,
    pub actor: Option<String>,
    pub metadata: Option<Box<RawValue>>,
}

/// What is to be recovered.
#[derive(Debug, PartialEq, Eq)]
pub struct RecoverRequest {
    /// At least one of its fields is present.
    pub filter: DlqFilter,
    pub actor: String,
    pub reason: String,
    /// From 1 to [`limits::RECOVERED_ENTRIES`].
    pub max: u32,
    /// What the last answer returned.
    pub after: Option<String>,
    /// What a dry run answered.
    pub seen: Option<String>,
    pub dry_run: bool,
}

/// Digits of a fingerprint.
pub const FINGERPRINT_DIGITS: usize = 12;

/// Reads an investigation.
pub fn parse_investigation(body: &[u8]) -> Result<Investigation, Faults> {
    let findings = RefCell::new(Findings::default());
    let mut object = Object::of_members(members(body, &findings)?, &findings);
    let investigation = Investigation {
        status: object.word("resolution_status"),
        notes: object.checked("resolution_notes", refuse_prose),
        actor: object.checked("resolved_by", refuse_line),
        metadata: object.json("metadata").map(Into::into),
    };
    let Investigation { status, notes, actor, metadata } = &investigation;
    if status.is_none() && notes.is_none() && actor.is_none() && metadata.is_none() && findings.borrow().faults() == 0 {
        object.fault("", "changes nothing: give one or more of resolution_status, resolution_notes, resolved_by or metadata");
    }
    object.close();
    findings.into_inner().finish()?;
    Ok(investigation)
}

/// Reads a recovery. A filter that selects everything is refused.
pub fn parse_recover(body: &[u8]) -> Result<RecoverRequest, Faults> {
    let findings = RefCell::new(Findings::default());
    let mut object = Object::of_members(members(body, &findings)?, &findings);
    let before = findings.borrow().faults();
    let filter = object.object("filter").map(filter).unwrap_or_default();
    if filter == DlqFilter::default() && findings.borrow().faults() == before {
        let fields = "dlq_reason, namespace, template, step, fingerprint, entries or older_than_seconds";
        object.fault("filter", format!("selects no entries: give one or more of {fields}"));
    }
    let request = RecoverRequest {
        filter,
        actor: object.required_checked("actor", refuse_line),
        reason: object.required_checked("reason", refuse_prose),
        max: object.number("max", 1..=limits::RECOVERED_ENTRIES).unwrap_or(limits::RECOVERED_ENTRIES),
        after: object.checked("after", refuse_line),
        seen: object.checked("seen", refuse_line),
        dry_run: object.flag("dry_run").unwrap_or_default(),
    };
    object.close();
    findings.into_inner().finish()?;
    Ok(request)
}

fn filter(mut object: Object) -> DlqFilter {
    let filter = DlqFilter {
        dlq_reason: object.word("dlq_reason"),
        namespace: object.checked("namespace", refuse_namespace),
        template: object.checked("template", refuse_name),
        step: object.checked("step", refuse_step),
        fingerprint: object.checked("fingerprint", refuse_fingerprint),
        entries: entries(&mut object),
        older_than_seconds: object.number("older_than_seconds", 1..=u32::MAX),
    };
    object.close();
    filter
}

/// The fault of a text that is not the name of a step. That of a batch worker is longer than others.
pub fn refuse_step(name: &str) -> Option<String> {
    refuse_line(name)
}

/// The fault of a text that is not a fingerprint.
pub fn refuse_fingerprint(text: &str) -> Option<String> {
    let is_one = text.len() == FINGERPRINT_DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (!is_one).then(|| format!("must be {FINGERPRINT_DIGITS} digits of 0-9 and a-f"))
}

fn entries(object: &mut Object) -> Option<Vec<Uuid>> {
    let is_given = object.peek("entries").is_some();
    let not_an_id = |text: &str| Uuid::parse_str(text).err().map(|_| "is not a UUID".to_owned());
    let texts = object.texts("entries", not_an_id);
    if !is_given {
        return None;
    }
    if texts.is_empty() || texts.len() > limits::RECOVERED_ENTRIES as usize {
        object.fault("entries", format!("must be 1 to {} ids", limits::RECOVERED_ENTRIES));
    }
    Some(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: &str) -> Vec<String> {
        parse_recover(body.as_bytes()).unwrap_err().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_recovery_without_a_filter_is_refused_with_a_sentence() {
        for filter in ["", r#""filter": {}, "#, r#""filter": {"namespace": null}, "#] {
            let faults = faults(&format!(r#"{{{filter}"actor": "a", "reason": "b"}}"#));
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].contains("selects no entries: give one or more of dlq_reason, namespace"), "{faults:?}");
        }
    }

    #[test]
    fn every_fault_of_a_recovery_is_found() {
        let body =
            r#"{"filter": {"namespace": "A", "fingerprint": "x", "entries": ["x"], "older": 1}, "max": 101, "reason": "b"}"#;
        let found = faults(body);
        for place in ["/filter/namespace", "/filter/fingerprint", "/filter/entries/0", "/filter/older", "/max", "/actor"] {
            assert!(found.iter().any(|fault| fault.starts_with(place)), "{place}: {found:?}");
        }
    }

    #[test]
    fn both_spellings_of_a_word_are_read() {
        for (word, status) in
            [("PermanentlyFailed", DlqStatus::PermanentlyFailed), ("manually_resolved", DlqStatus::ManuallyResolved)]
        {
            let body = format!(r#"{{"resolution_status": "{word}", "resolution_notes": null}}"#);
            let read = parse_investigation(body.as_bytes()).unwrap();
            assert_eq!((read.status, read.notes), (Some(status), None));
        }
        assert!(parse_investigation(br#"{"resolution_status": "fixed"}"#).is_err());
    }
}
