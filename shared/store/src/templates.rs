//! Registered templates: immutable revisions.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{Store, StoreError};

/// A revision to be registered.
#[derive(Debug, Clone)]
pub struct NewTemplate<'a> {
    /// Its id, drawn by the caller.
    pub template_id: Uuid,
    /// Namespace, name and version.
    pub identity: [&'a str; 3],
    /// From 1.
    pub revision: i32,
    /// JSON text.
    pub definition: &'a str,
    /// Of the definition.
    pub sha256: [u8; 32],
}

/// A revision as it is stored.
#[derive(Debug, Clone)]
pub struct StoredTemplate {
    /// Its id.
    pub template_id: Uuid,
    /// The version.
    pub version: String,
    /// From 1.
    pub revision: i32,
    /// Of the definition.
    pub sha256: Vec<u8>,
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
        Ok(!self.query(include_str!("../sql/insert_template.sql"), &params).await?.is_empty())
    }

    /// The newest revision of every version of a template.
    pub async fn latest_revisions(&self, namespace: &str, name: &str) -> Result<Vec<StoredTemplate>, StoreError> {
        let params = [(&namespace as _, Type::TEXT), (&name as _, Type::TEXT)];
        let rows = self.query(include_str!("../sql/latest_revisions.sql"), &params).await?;
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
        let rows = self.query(include_str!("../sql/template_by_id.sql"), &[(&template_id, Type::UUID)]).await?;
        Ok(rows.first().map(|r| r.get("definition")))
    }
}
