//! `db-migrate`: brings the database to this version's schema. Whoever deploys invokes it before the others take the new code.

use serde::de::IgnoredAny;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use crate::{
    Instance,
    serve::{Failed, Invocation},
};

/// Applies what is missing and names it, whatever it was invoked with.
pub async fn migrate(instance: Instance, _: Invocation<IgnoredAny>) -> Result<Box<RawValue>, Failed> {
    let applied = tasker_store::migrate_by(&instance.access()).await.map_err(|e| Failed(e.to_string()))?;
    for migration in &applied {
        tracing::info!(migration, "applied");
    }
    to_raw_value(&json!({ "applied": applied })).map_err(|e| Failed(e.to_string()))
}
