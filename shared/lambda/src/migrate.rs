//! `db-migrate`: migrates the database to the schema of this version. A deployment invokes it before it updates the other functions.

use serde::de::IgnoredAny;
use serde_json::{json, value::to_raw_value};

use crate::{
    Instance,
    serve::{Invocation, InvocationResult},
};

/// Applies the missing migrations and returns their names. Accepts any event.
pub async fn migrate(instance: Instance, _: Invocation<IgnoredAny>) -> InvocationResult {
    let applied = tasker_store::migrate_by(&instance.connector()).await?;
    for migration in &applied {
        tracing::info!(migration, "applied");
    }
    Ok(to_raw_value(&json!({ "applied": applied }))?)
}
