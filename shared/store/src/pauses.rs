//! Pauses of namespaces and templates.

use jiff::Timestamp;
use tasker_wire::{StepNo, limits};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{
    Store, StoreError,
    pool::{Lane, Param, Prepared},
    row::from_row,
    store::sql,
};

/// Held steps that one statement looks at.
const PAGE: i64 = 1_000;

/// What a pause is of: a namespace, or one of its templates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseScope {
    pub namespace: String,
    /// `None`: all of its templates.
    pub template: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub scope: PauseScope,
    pub actor: String,
    pub reason: String,
    pub created_at: Timestamp,
}

impl PauseScope {
    /// The column `template`.
    fn template(&self) -> &str {
        self.template.as_deref().unwrap_or_default()
    }
}

impl Pause {
    fn read(row: &Row) -> Self {
        let template: String = row.get("template");
        let scope = PauseScope { namespace: row.get("namespace"), template: Some(template).filter(|name| !name.is_empty()) };
        from_row!(row, Self { actor, reason, created_at; scope: scope })
    }
}

impl Store {
    /// The pauses that are in force, at most [`limits::LISTED_TEMPLATES`].
    pub async fn pauses(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = self.read(sql!("list_pauses"), &[&limits::LISTED_TEMPLATES]).await?;
        Ok(rows.iter().map(Pause::read).collect())
    }

    /// The pause of this scope itself, not that of the namespace of a template.
    pub async fn find_pause(&self, scope: &PauseScope) -> Result<Option<Pause>, StoreError> {
        let rows = self.read(sql!("find_pause"), &[&scope.namespace.as_str(), &scope.template()]).await?;
        Ok(rows.first().map(Pause::read))
    }

    /// Begins a pause. One that is there stays as it is, and is returned.
    pub async fn pause(&self, scope: &PauseScope, actor: &str, reason: &str) -> Result<Pause, StoreError> {
        let params: [Param<'_>; 4] = [&scope.namespace.as_str(), &scope.template(), &actor, &reason];
        let rows = self.request(sql!("pause"), &params).await?;
        rows.first().map(Pause::read).ok_or_else(|| StoreError::Bug("a pause returned no row".into()))
    }

    /// Ends a pause. Returns it; `None` if there was none.
    pub async fn resume(&self, scope: &PauseScope, actor: &str, reason: &str) -> Result<Option<Pause>, StoreError> {
        let params: [Param<'_>; 4] = [&scope.namespace.as_str(), &scope.template(), &actor, &reason];
        let rows = self.request(sql!("resume"), &params).await?;
        Ok(rows.first().map(Pause::read))
    }

    /// Makes due the steps that an ended pause had held and nothing else pauses. Returns their number.
    pub async fn release_held(&self, scope: &PauseScope) -> Result<i64, StoreError> {
        self.held_by_pages(sql!("release_held"), scope).await
    }

    /// The number of steps that wait only for the end of this pause.
    pub async fn count_held(&self, scope: &PauseScope) -> Result<i64, StoreError> {
        self.held_by_pages(sql!("count_held"), scope).await.map_err(StoreError::of_a_read)
    }

    async fn held_by_pages(&self, sql: &'static str, scope: &PauseScope) -> Result<i64, StoreError> {
        let (mut last, mut steps) = ((Uuid::nil(), 0 as StepNo), 0);
        loop {
            let params: [Param<'_>; 5] = [&scope.namespace.as_str(), &scope.template(), &last.0, &last.1, &PAGE];
            let rows = self.pool.run(Lane::Requests, Prepared::Never, sql, &params).await?;
            let Some(row) = rows.first() else { return Ok(steps) };
            steps += row.get::<_, i64>("steps");
            let Some(task) = row.get("task_id") else { return Ok(steps) };
            last = (task, row.get("no"));
        }
    }
}
