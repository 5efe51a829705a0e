//! Why a task and its steps are where they are.

use tasker_domain::{
    explain::{Explanation, Pool, explain},
    template::WorkflowStep,
};
use tasker_queue::Queue;
use tasker_store::StoreError;
use tasker_wire::TaskId;

use crate::Engine;

impl<Q: Queue> Engine<Q> {
    /// Explains a task from its rows. `None` if there is no such task.
    pub async fn explain(&self, task: TaskId) -> Result<Option<Explanation>, StoreError> {
        let Some((facts, template)) = self.store.explain(task).await? else { return Ok(None) };
        let template = self.templates.get(&self.store, &template).await?;
        let pool_of = |step: &WorkflowStep| {
            let name = self.pool_of(&facts.namespace, step.worker.as_deref());
            Pool { name: name.to_owned(), unserved: self.why_unserved(name) }
        };
        Ok(Some(explain(&facts, template.as_deref().map(|template| &template.workflow), pool_of)))
    }
}
