//! Templates as the engine runs them: an immutable revision in an environment, with the rows of its steps.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tasker_domain::{
    Decided, GraphStep,
    template::{Template, Workflow, WorkflowStep},
    token::TemplateRef,
};
use tasker_store::{Store, StoreError, StoredTemplate, TemplateRows};
use tasker_wire::{StepNo, ids::position};

pub(crate) struct LoadedTemplate {
    pub workflow: Workflow,
    pub rows: Arc<TemplateRows>,
}

impl LoadedTemplate {
    /// The template's step for a step of a task. The workers of a batch share the position of their pattern.
    pub fn step(&self, step: tasker_wire::StepId) -> Option<&WorkflowStep> {
        self.workflow.steps.get(step.position()?)
    }
}

/// Caches immutable templates, and for a short time which revisions exist.
#[derive(Default)]
pub(crate) struct TemplateCache {
    loaded: Mutex<HashMap<TemplateRef, Arc<LoadedTemplate>>>,
    revisions: Mutex<HashMap<[String; 2], Revisions>>,
}

/// The newest revision of each version of a template, and when it was read.
type Revisions = (Instant, Arc<Vec<StoredTemplate>>);

/// After this time a revision that another process registered is seen.
const REVISIONS_FOR: Duration = Duration::from_secs(1);
/// The entries of a cache. A full cache is emptied.
const ENTRIES: usize = 1000;

impl TemplateCache {
    /// Returns the template, and loads it on first use. `None` if the revision does not exist or this version cannot read it.
    pub async fn get(&self, store: &Store, reference: &TemplateRef) -> Result<Option<Arc<LoadedTemplate>>, StoreError> {
        if let Some(known) = self.loaded.lock().get(reference) {
            return Ok(Some(known.clone()));
        }
        let Some(definition) = store.template_definition(reference.template_id).await? else {
            return Ok(None);
        };
        let Some(loaded) = load(reference, &definition).map(Arc::new) else {
            return Ok(None);
        };
        let mut cache = self.loaded.lock();
        if cache.len() >= ENTRIES {
            cache.clear();
        }
        cache.insert(reference.clone(), loaded.clone());
        Ok(Some(loaded))
    }

    /// The newest revision of each version of a template.
    pub async fn revisions(&self, store: &Store, namespace: &str, name: &str) -> Result<Arc<Vec<StoredTemplate>>, StoreError> {
        let key = [namespace.to_owned(), name.to_owned()];
        if let Some((read, known)) = self.revisions.lock().get(&key)
            && read.elapsed() < REVISIONS_FOR
            && !known.is_empty()
        {
            return Ok(known.clone());
        }
        let found = Arc::new(store.latest_revisions(namespace, name).await?);
        let mut cache = self.revisions.lock();
        if cache.len() >= ENTRIES {
            cache.clear();
        }
        cache.insert(key, (Instant::now(), found.clone()));
        Ok(found)
    }

    /// Forgets which revisions exist, because this process registered one.
    pub fn forget_revisions(&self, namespace: &str, name: &str) {
        self.revisions.lock().remove(&[namespace.to_owned(), name.to_owned()]);
    }
}

fn load(reference: &TemplateRef, definition: &str) -> Option<LoadedTemplate> {
    let template: Template = serde_json::from_str(definition)
        .inspect_err(|e| tracing::error!(template_id = %reference.template_id, error = %e, "a stored template cannot be read"))
        .ok()?;
    let workflow = template
        .workflow(&reference.environment)
        .inspect_err(|e| tracing::error!(template_id = %reference.template_id, error = %e, "a stored template is not valid"))
        .ok()?;
    let rows = Arc::new(rows(reference, &workflow));
    Some(LoadedTemplate { workflow, rows })
}

fn rows(reference: &TemplateRef, workflow: &Workflow) -> TemplateRows {
    let rows = workflow.graph(&Decided::new());
    let steps = || rows.iter().filter_map(|row| workflow.steps.get(position(row.no)?));
    let list = |f: fn(&GraphStep) -> &[StepNo]| rows.iter().map(|row| array_of(f(row))).collect();
    TemplateRows {
        template: reference.clone(),
        identity: [workflow.namespace.clone(), workflow.name.clone(), workflow.version.to_string()],
        no: rows.iter().map(|row| row.no).collect(),
        name: steps().map(|step| step.name.clone()).collect(),
        max_attempts: steps().map(|step| step.policy.max_attempts).collect(),
        parents: list(|row| &row.parents),
        children: list(|row| &row.children),
        further_ancestors: list(|row| &row.further_ancestors),
        roots: rows.iter().filter(|row| row.parents.is_empty()).count() as i32,
    }
}

/// Step numbers as a PostgreSQL array literal.
fn array_of(numbers: &[StepNo]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", numbers.join(","))
}
