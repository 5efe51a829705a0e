//! Registers templates as immutable revisions.

use std::sync::Arc;

use serde_json::Value;

use tasker_domain::template;
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
    /// Accepted keys that have no effect in this version.
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
        let (parsed, notes) = template::parse(yaml).map_err(RegisterError::Invalid)?;
        let refused = template::refuse_unsupported(&parsed);
        if !refused.is_empty() {
            return Err(RegisterError::Invalid(Faults(refused)));
        }
        let definition = serde_json::to_string(&parsed).map_err(|e| StoreError::Bug(e.to_string()))?;
        let sha256 = parsed.sha256();
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

/// The differences between two JSON texts, two lines each.
fn diff(old: &str, new: &str) -> Vec<String> {
    let parse = |text| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let mut lines = Vec::new();
    compare("", &parse(old), &parse(new), &mut lines);
    lines.truncate(DIFF_LINES);
    lines
}

fn compare(place: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if old == new || lines.len() >= DIFF_LINES {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                compare(&pointer(place, key), a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), lines);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            for i in 0..a.len().max(b.len()) {
                compare(&pointer(place, i), a.get(i).unwrap_or(&Value::Null), b.get(i).unwrap_or(&Value::Null), lines);
            }
        }
        _ => {
            lines.push(format!("- {place}: {old}"));
            lines.push(format!("+ {place}: {new}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_the_places_that_differ() {
        let lines = diff(r#"{"a": {"b": [1, 2]}, "c": 1}"#, r#"{"a": {"b": [1, 3]}, "c": 1}"#);
        assert_eq!(lines, ["- /a/b/1: 2", "+ /a/b/1: 3"]);
    }
}
