//! Pools: which one runs a step, and what is said of work that nobody will do.

use std::collections::{BTreeMap, HashMap};

use tasker_domain::{near, token::TemplateRef};
use tasker_queue::Queue;
use tasker_store::StoreError;
use tasker_wire::{Fault, StepId, limits};

use crate::Engine;

/// The steps of a template whose pool has no worker that is known.
#[derive(Debug, Clone, Default)]
pub struct Unserved {
    /// What each of them waits for, by its position in the workflow.
    waits: HashMap<usize, String>,
}

impl Unserved {
    /// What a step waits for, as a sentence; `None` if it has workers, or nothing is known.
    pub fn of(&self, step: StepId) -> Option<&str> {
        self.waits.get(&step.position()?).map(String::as_str)
    }
}

/// A pool without a worker that is known, and what waits for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPool {
    pub pool: String,
    pub why: String,
    /// Steps that are dispatched and not started.
    pub steps: i64,
}

impl<Q: Queue> Engine<Q> {
    /// The pool that a step names, or the one named like its namespace, or the only pool, or `default`.
    pub(crate) fn pool_of<'a>(&'a self, namespace: &'a str, worker: Option<&'a str>) -> &'a str {
        let pools = &self.settings.pools;
        match (worker, pools.iter().next()) {
            (Some(named), _) => named,
            _ if pools.contains(namespace) => namespace,
            (None, Some(only)) if pools.len() == 1 => only,
            _ => "default",
        }
    }

    /// Why nobody will run the steps of a pool. `None` if it has workers, or if the pools are not known: a queue outside the process may
    /// have consumers that no setting names.
    pub fn why_unserved(&self, pool: &str) -> Option<String> {
        let pools = &self.settings.pools;
        if pools.contains(pool) || (pools.is_empty() && self.settings.in_process.is_none()) {
            return None;
        }
        let mut known: Vec<&str> = pools.iter().map(String::as_str).collect();
        known.sort_unstable();
        let hint = match (near(pool, known.iter().copied()), known.is_empty()) {
            (Some(near), _) => format!("; did you mean {near}?"),
            (None, true) => String::new(),
            (None, false) => format!("; there are workers of {}", shortened(&known)),
        };
        Some(format!("waits for a worker of pool {pool}; none is known{hint}"))
    }

    /// The steps of a revision that nobody will run.
    pub async fn unserved(&self, template: &TemplateRef) -> Result<Unserved, StoreError> {
        let Some(template) = self.templates.get(&self.store, template).await? else { return Ok(Unserved::default()) };
        let (workflow, mut whys) = (&template.workflow, HashMap::new());
        let mut waits = HashMap::new();
        for (position, step) in workflow.steps.iter().enumerate() {
            let pool = self.pool_of(&workflow.namespace, step.worker.as_deref());
            let why: &Option<String> = whys.entry(pool).or_insert_with(|| self.why_unserved(pool));
            waits.extend(why.clone().map(|why| (position, why)));
        }
        Ok(Unserved { waits })
    }

    /// A note for each pool of a template that has no worker, at its first step.
    pub(crate) fn notes_on_pools<'a>(&self, namespace: &str, workers: impl Iterator<Item = Option<&'a str>>) -> Vec<Fault> {
        let mut pools: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        let workers: Vec<_> = workers.collect();
        for (index, worker) in workers.iter().enumerate() {
            pools.entry(self.pool_of(namespace, *worker)).or_insert((index, 0)).1 += 1;
        }
        let note = |(pool, (first, count)): (&str, (usize, usize))| {
            let steps = if count > 1 { format!(" ({count} steps)") } else { String::new() };
            Some(Fault::new(format!("/steps/{first}/worker"), format!("{}{steps}", self.why_unserved(pool)?)))
        };
        pools.into_iter().filter_map(note).collect()
    }

    /// The registered templates with steps of pools without a worker: for each pool why, and the templates.
    pub async fn unserved_templates(&self) -> Result<Vec<(String, Vec<String>)>, StoreError> {
        let mut pools: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for of_template in self.store.template_workers().await? {
            let [namespace, name, version] = &of_template.identity;
            let pool = self.pool_of(namespace, of_template.worker.as_deref());
            pools.entry(pool.to_owned()).or_default().push(format!("{namespace}/{name} {version}"));
        }
        Ok(pools.into_iter().filter_map(|(pool, templates)| Some((self.why_unserved(&pool)?, templates))).collect())
    }

    /// The pools without a worker for which dispatched steps wait.
    pub async fn unserved_pools(&self) -> Result<Vec<WaitingPool>, StoreError> {
        let mut pools: BTreeMap<String, i64> = BTreeMap::new();
        for waiting in self.store.waiting_steps().await? {
            let Some(template) = self.templates.get(&self.store, &waiting.template).await? else { continue };
            let step = StepId { task: waiting.task, no: waiting.no };
            let Some(step) = template.step(step) else { continue };
            let pool = self.pool_of(&template.workflow.namespace, step.worker.as_deref());
            *pools.entry(pool.to_owned()).or_default() += waiting.count;
        }
        let unserved = |(pool, steps): (String, i64)| Some(WaitingPool { why: self.why_unserved(&pool)?, pool, steps });
        Ok(pools.into_iter().filter_map(unserved).collect())
    }
}

/// The first names of a list.
fn shortened(names: &[&str]) -> String {
    let more = names.len().saturating_sub(limits::LISTED_NAMES);
    let listed = names.iter().take(limits::LISTED_NAMES).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}
