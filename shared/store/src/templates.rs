//! Registered templates: immutable revisions.

use jiff::Timestamp;
use serde_json::value::RawValue;
use tasker_wire::limits;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    change::raw,
    pool::{Lane, Prepared},
};

/// A revision to be registered.
#[derive(Debug, Clone)]
pub struct NewTemplate<'a> {
    /// Drawn by the caller.
    pub template_id: Uuid,
    /// Namespace, name and version.
    pub identity: [&'a str; 3],
    /// From 1.
    pub revision: i32,
    pub definition: &'a str,
    pub sha256: [u8; 32],
}

/// A revision as it is stored.
#[derive(Debug, Clone)]
pub struct StoredTemplate {
    pub template_id: Uuid,
    pub version: String,
    /// From 1.
    pub revision: i32,
    pub sha256: Vec<u8>,
}

/// A version of a template, in a list.
#[derive(Debug)]
pub struct TemplateVersion {
    /// Namespace, name and version.
    pub identity: [String; 3],
    pub description: Option<String>,
    /// Steps that it declares.
    pub steps: i64,
}

/// The newest revision of a version of a template.
#[derive(Debug)]
pub struct TemplateRevision {
    pub template_id: Uuid,
    /// From 1.
    pub revision: i32,
    /// JSON, as registered.
    pub definition: Box<RawValue>,
    pub created_at: Timestamp,
}

impl Store {
    /// Inserts a revision; false when that revision exists already.
    pub async fn insert_template(&self, new: NewTemplate<'_>) -> Result<bool, StoreError> {
        let [namespace, name, version] = new.identity;
        let params = [
            (&new.template_id as _, Type::UUID),
            (&namespace as _, Type::TEXT),
            (&name as _, Type::TEXT),
            (&version as _, Type::TEXT),
            (&new.revision as _, Type::INT4),
            (&new.definition as _, Type::TEXT),
            (&new.sha256.as_slice() as _, Type::BYTEA),
        ];
        Ok(!self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/insert_template.sql"), &params).await?.is_empty())
    }

    /// The newest revision of every version of a template.
    pub async fn latest_revisions(&self, namespace: &str, name: &str) -> Result<Vec<StoredTemplate>, StoreError> {
        let params = [(&namespace as _, Type::TEXT), (&name as _, Type::TEXT)];
        let rows = self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/latest_revisions.sql"), &params).await?;
        Ok(rows
            .iter()
            .map(|r| StoredTemplate {
                template_id: r.get("template_id"),
                version: r.get("version"),
                revision: r.get("revision"),
                sha256: r.get("sha256"),
            })
            .collect())
    }

    /// The definition of a revision, as JSON text.
    pub async fn template_definition(&self, template_id: Uuid) -> Result<Option<String>, StoreError> {
        let rows = self
            .pool
            .run(Lane::Requests, Prepared::Never, include_str!("../sql/template_by_id.sql"), &[(&template_id, Type::UUID)])
            .await?;
        Ok(rows.first().map(|r| r.get("definition")))
    }

    /// The newest revision of every version of every template, at most [`limits::LISTED_TEMPLATES`].
    pub async fn templates(&self, namespace: Option<&str>) -> Result<Vec<TemplateVersion>, StoreError> {
        let params = [(&namespace as _, Type::TEXT), (&limits::LISTED_TEMPLATES as _, Type::INT8)];
        let rows = self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/list_templates.sql"), &params).await?;
        let read = |r: &Row| TemplateVersion {
            identity: [r.get(0), r.get(1), r.get(2)],
            description: r.get("description"),
            steps: i64::from(r.get::<_, i32>("steps")),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Namespaces that have templates, with how many versions of templates each has.
    pub async fn namespaces(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/count_templates.sql"), &[]).await?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
    }

    /// The newest revision of a version of a template.
    pub async fn template(&self, namespace: &str, name: &str, version: &str) -> Result<Option<TemplateRevision>, StoreError> {
        let params = [(&namespace as _, Type::TEXT), (&name as _, Type::TEXT), (&version as _, Type::TEXT)];
        let rows = self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/get_template.sql"), &params).await?;
        let read = |r: &Row| TemplateRevision {
            template_id: r.get("template_id"),
            revision: r.get("revision"),
            definition: raw(r.get("definition")),
            created_at: r.get("created_at"),
        };
        Ok(rows.first().map(read))
    }
}
