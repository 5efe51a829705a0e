//! Pauses of namespaces and templates. The rows of `pauses` and `past_pauses` are their audit log.

use std::sync::Arc;

use tasker_domain::{did_you_mean, digest};
use tasker_queue::Queue;
use tasker_store::{Pause, PauseScope, StoreError};

use crate::{Engine, operator::By};

/// What a pause or its end did, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseChange {
    /// The pause that is in force, or that ended. `None`: there was none, or there is none yet.
    pub pause: Option<Pause>,
    /// The steps that only this pause holds. After its end: those that the sweep dispatches now.
    pub held_steps: i64,
}

impl PauseChange {
    /// A digest of what a pause or its end would do.
    pub fn seen(&self) -> String {
        let since = self.pause.as_ref().map(|pause| (pause.created_at, pause.actor.as_str(), pause.reason.as_str()));
        digest::seen(&format!("{since:?} {}", self.held_steps))
    }
}

impl<Q: Queue> Engine<Q> {
    /// Holds the dispatches of a namespace or template from now on. A pause that is there stays as it is. `dry_run`: changes nothing.
    pub async fn pause(self: &Arc<Self>, scope: PauseScope, by: By, dry_run: bool) -> Result<PauseChange, StoreError> {
        self.to_its_end(|engine| async move {
            let pause = match dry_run {
                true => engine.store.find_pause(&scope).await?,
                false => Some(engine.store.pause(&scope, &by.actor, &by.reason).await?),
            };
            Ok(PauseChange { pause, held_steps: engine.store.count_held(&scope).await? })
        })
        .await
    }

    /// A sentence if no template is registered that this pause would be about. It may be meant for later.
    pub async fn unknown_scope(&self, scope: &PauseScope) -> Result<Option<String>, StoreError> {
        let PauseScope { namespace, template } = scope;
        let Some(template) = template else {
            let known = self.store.namespaces().await?;
            let hint = did_you_mean(namespace, known.iter().map(|(name, _)| name.as_str()));
            let is_known = known.iter().any(|(name, _)| name == namespace);
            return Ok((!is_known).then(|| format!("no template is registered in namespace {namespace}{hint}")));
        };
        if !self.store.latest_revisions(namespace, template).await?.is_empty() {
            return Ok(None);
        }
        let hint = self.near_template(namespace, template).await?;
        Ok(Some(format!("no template {namespace}/{template} is registered{hint}")))
    }

    /// Ends a pause, and makes due what nothing else pauses, in bounded batches. Without a pause it does the latter all the same, so that it
    /// may be repeated after a lost answer. `dry_run`: changes nothing.
    pub async fn resume(self: &Arc<Self>, scope: PauseScope, by: By, dry_run: bool) -> Result<PauseChange, StoreError> {
        self.to_its_end(|engine| async move {
            if dry_run {
                let pause = engine.store.find_pause(&scope).await?;
                return Ok(PauseChange { pause, held_steps: engine.store.count_held(&scope).await? });
            }
            let pause = engine.store.resume(&scope, &by.actor, &by.reason).await?;
            Ok(PauseChange { pause, held_steps: engine.store.release_held(&scope).await? })
        })
        .await
    }
}
