//! Registers templates as immutable revisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::value::RawValue;
use tasker_domain::template::{self, Lifecycle};
use tasker_queue::Queue;
use tasker_store::{NewTemplate, StoreError};
use tasker_wire::{Fault, Faults, fault::pointer};
use uuid::Uuid;

use crate::Engine;

/// A registered template.
#[derive(Debug, Clone)]
pub struct Registered {
    pub namespace: String,
    pub name: String,
    pub version: String,
    /// 1, or more if changed content became a new revision.
    pub revision: i32,
    /// Whether this call registered it. False if the same content was registered before.
    pub created: bool,
    /// Accepted keys that have no effect in this version, and pools without a worker.
    pub notes: Vec<Fault>,
}

/// Why a template was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The template is invalid.
    #[error("{0}")]
    Invalid(Faults),
    /// Other content is registered under the same version.
    #[error("version {version} is registered with other content; templates are immutable: give it a new version")]
    Differs {
        version: String,
        /// The differences, two lines each: `- place: registered`, `+ place: given`.
        diff: Vec<String>,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The maximum number of lines of a diff.
const DIFF_LINES: usize = 50;

impl<Q: Queue> Engine<Q> {
    /// Registers a template from YAML or JSON. Registering the same content again changes nothing.
    pub async fn register_template(self: &Arc<Self>, yaml: &str) -> Result<Registered, RegisterError> {
        let (parsed, mut notes) = template::parse(yaml).map_err(RegisterError::Invalid)?;
        notes.extend(self.notes_on_pools(&parsed.namespace, parsed.steps.iter().map(|step| step.worker.as_deref())));
        let definition = serde_json::to_string(&parsed).map_err(|e| StoreError::Bug(e.to_string()))?;
        let sha256 = parsed.sha256();
        let lifecycle =
            parsed.lifecycle.filter(Lifecycle::has_thresholds).map(|it| serde_json::to_string(&it).expect("numbers serialize"));
        let (namespace, name, version) = (parsed.namespace, parsed.name, parsed.version.to_string());
        let mut registered = Registered { namespace, name, version, revision: 1, created: false, notes };
        loop {
            let known = self.store.latest_revisions(&registered.namespace, &registered.name).await?;
            let latest = known.iter().find(|r| r.version == registered.version);
            if let Some(latest) = latest {
                registered.revision = latest.revision;
                if latest.sha256 == sha256 {
                    return Ok(registered);
                }
                if !self.settings.revise_templates {
                    let old = self.store.template_definition(latest.template_id).await?.unwrap_or_default();
                    return Err(RegisterError::Differs { version: registered.version, diff: diff(&old, &definition) });
                }
                registered.revision += 1;
            }
            let new = NewTemplate {
                template_id: Uuid::now_v7(),
                identity: [&registered.namespace, &registered.name, &registered.version],
                revision: registered.revision,
                definition: &definition,
                sha256,
                lifecycle: lifecycle.clone(),
            };
            // Another caller registered the same version in this moment: read again.
            if self.store.insert_template(new).await? {
                self.templates.forget_revisions(&registered.namespace, &registered.name);
                registered.created = true;
                return Ok(registered);
            }
        }
    }
}

/// The differences between two JSON texts, two lines each. Texts are compared, so numbers differ by their last digit.
fn diff(old: &str, new: &str) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", old, new, &mut lines);
    lines.truncate(DIFF_LINES);
    lines
}

fn compare(place: &str, old: &str, new: &str, lines: &mut Vec<String>) {
    if old == new || lines.len() >= DIFF_LINES {
        return;
    }
    if let (Ok(a), Ok(b)) = (members(old), members(new)) {
        let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        keys.into_iter().for_each(|key| compare(&pointer(place, key), text(a.get(key)), text(b.get(key)), lines));
    } else if let (Ok(a), Ok(b)) = (list(old), list(new)) {
        (0..a.len().max(b.len())).for_each(|i| compare(&pointer(place, i), text(a.get(i)), text(b.get(i)), lines));
    } else {
        lines.push(format!("- {place}: {old}"));
        lines.push(format!("+ {place}: {new}"));
    }
}

fn members(json: &str) -> serde_json::Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str(json)
}

fn list(json: &str) -> serde_json::Result<Vec<&RawValue>> {
    serde_json::from_str(json)
}

fn text<'a>(json: Option<&&'a RawValue>) -> &'a str {
    json.map_or("null", |json| json.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_the_places_that_differ() {
        let lines = diff(r#"{"a": {"b": [1, 2]}, "c": 1}"#, r#"{"a": {"b": [1, 3]}, "c": 1}"#);
        assert_eq!(lines, ["- /a/b/1: 2", "+ /a/b/1: 3"]);
        let lines = diff(r#"{"a": 12345678901234567890123}"#, r#"{"a": 12345678901234567890124, "b": [1]}"#);
        let expected = ["- /a: 12345678901234567890123", "+ /a: 12345678901234567890124", "- /b: null", "+ /b: [1]"];
        assert_eq!(lines, expected);
    }
}
