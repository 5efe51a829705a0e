//! Registered templates: immutable revisions.

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_wire::limits;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{Store, StoreError, change::raw, pool::Param, row::from_row, store::sql};

#[derive(Debug, Clone)]
pub struct NewTemplate<'a> {
    /// Chosen by the caller.
    pub template_id: Uuid,
    /// Namespace, name and version.
    pub identity: [&'a str; 3],
    /// From 1.
    pub revision: i32,
    /// JSON.
    pub definition: &'a str,
    pub sha256: [u8; 32],
    /// Its lifecycle as JSON, if it has thresholds.
    pub lifecycle: Option<String>,
}

/// A stored revision, without its definition.
#[derive(Debug, Clone)]
pub struct StoredTemplate {
    pub template_id: Uuid,
    pub version: String,
    /// From 1.
    pub revision: i32,
    pub sha256: Vec<u8>,
}

/// A version of a template in a list.
#[derive(Debug)]
pub struct TemplateVersion {
    /// Namespace, name and version.
    pub identity: [String; 3],
    pub description: Option<String>,
    pub steps: i64,
}

/// A worker that steps of a template name; `None` for those that name none.
#[derive(Debug)]
pub struct TemplateWorker {
    /// Namespace, name and version.
    pub identity: [String; 3],
    pub worker: Option<String>,
}

/// The newest revision of a version of a template.
#[derive(Debug)]
pub struct TemplateRevision {
    pub template_id: Uuid,
    /// From 1.
    pub revision: i32,
    /// JSON, as it was registered.
    pub definition: Box<RawValue>,
    pub created_at: Timestamp,
}

impl Store {
    /// Inserts a revision. False if that revision exists already.
    pub async fn insert_template(&self, new: NewTemplate<'_>) -> Result<bool, StoreError> {
        let [namespace, name, version] = new.identity;
        let (id, revision, sha256) = (new.template_id, new.revision, &new.sha256[..]);
        let params: [Param<'_>; 8] = [&id, &namespace, &name, &version, &revision, &new.definition, &sha256, &new.lifecycle];
        Ok(!self.request(sql!("insert_template"), &params).await?.is_empty())
    }

    /// The newest revision of every version of a template.
    pub async fn latest_revisions(&self, namespace: &str, name: &str) -> Result<Vec<StoredTemplate>, StoreError> {
        let rows = self.read(sql!("latest_revisions"), &[&namespace, &name]).await?;
        Ok(rows.iter().map(|row| from_row!(row, StoredTemplate { template_id, version, revision, sha256 })).collect())
    }

    /// The definition of a revision, as JSON text.
    pub async fn template_definition(&self, template_id: Uuid) -> Result<Option<String>, StoreError> {
        let rows = self.read(sql!("template_by_id"), &[&template_id]).await?;
        Ok(rows.first().map(|row| row.get("definition")))
    }

    /// The newest revision of every version of every template, at most [`limits::LISTED_TEMPLATES`].
    pub async fn templates(&self, namespace: Option<&str>) -> Result<Vec<TemplateVersion>, StoreError> {
        let rows = self.read(sql!("list_templates"), &[&namespace, &limits::LISTED_TEMPLATES]).await?;
        let read = |row: &Row| TemplateVersion {
            identity: [row.get(0), row.get(1), row.get(2)],
            description: row.get("description"),
            steps: row.get::<_, i32>("steps").into(),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// The workers that the newest revisions name, of at most [`limits::LISTED_TEMPLATES`] templates.
    pub async fn template_workers(&self) -> Result<Vec<TemplateWorker>, StoreError> {
        let rows = self.request(sql!("template_workers"), &[&limits::LISTED_TEMPLATES]).await?;
        let read = |row: &Row| TemplateWorker { identity: [row.get(0), row.get(1), row.get(2)], worker: row.get("worker") };
        Ok(rows.iter().map(read).collect())
    }

    /// The namespaces and names of templates, at most `rows`.
    pub async fn template_names(&self, rows: i64) -> Result<Vec<[String; 2]>, StoreError> {
        let rows = self.request(sql!("template_names"), &[&rows]).await?;
        Ok(rows.iter().map(|row| [row.get(0), row.get(1)]).collect())
    }

    /// The namespaces that have templates, each with the number of its template versions.
    pub async fn namespaces(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = self.read(sql!("count_templates"), &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// The newest revision of a version of a template.
    pub async fn template(&self, namespace: &str, name: &str, version: &str) -> Result<Option<TemplateRevision>, StoreError> {
        let rows = self.read(sql!("get_template"), &[&namespace, &name, &version]).await?;
        let read = |row: &Row| from_row!(row, TemplateRevision { template_id, revision, created_at; definition: raw(row.get("definition")) });
        Ok(rows.first().map(read))
    }
}
