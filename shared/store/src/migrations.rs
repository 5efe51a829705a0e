//! Brings a database to this version's schema: forward only, one migration at a time, safe to start twice at once.

use crate::{Connector, StoreError};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

const HISTORY: &str = "tasker.schema_history";
/// Any number, as long as it is always the same: whoever holds this lock migrates.
const LOCK: i64 = 0x7461_736b_6572;

/// Applies what is missing and names it.
pub async fn migrate(database_url: &str) -> Result<Vec<String>, StoreError> {
    migrate_by(&Connector::by_url(database_url)?).await
}

/// The same by an access.
pub async fn migrate_by(access: &Connector) -> Result<Vec<String>, StoreError> {
    // A connection of its own: the lock belongs to its session and goes with it.
    let (mut client, _) = access.connect().await?;
    client.batch_execute("create schema if not exists tasker").await.or_else(|e| {
        // Two that start at once may both find it missing.
        if e.code().is_some_and(|c| c.code() == "23505" || c.code() == "42P06") { Ok(()) } else { Err(e) }
    })?;
    client.batch_execute("set lock_timeout = '60s'").await?;
    client.execute_typed("select pg_advisory_lock($1)", &[(&LOCK, tokio_postgres::types::Type::INT8)]).await?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(&mut client).await;
    let report = report.map_err(|e| match client.is_closed() {
        true => StoreError::Unavailable("the connection was lost; run the migrations again".into()),
        false => other_schema(&e),
    })?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// Every migration of this version, and whether the database has it.
pub async fn migration_status(database_url: &str) -> Result<Vec<(String, bool)>, StoreError> {
    let (mut client, _) = Connector::by_url(database_url)?.connect().await?;
    let exists = client.query_typed("select to_regclass('tasker.schema_history') is not null", &[]).await?;
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    let applied = if exists[0].get(0) {
        runner.get_applied_migrations_async(&mut client).await.map_err(|e| StoreError::Bug(e.to_string()))?
    } else {
        Vec::new()
    };
    let known = runner.get_migrations().iter();
    Ok(known.map(|m| (m.to_string(), applied.iter().any(|a| a.version() == m.version()))).collect())
}

/// A migration fails when somebody else made the schema, or a version of ours that was never released.
fn other_schema(error: &refinery::Error) -> StoreError {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    StoreError::Setting(format!(
        "the database cannot be brought to this version's schema ({cause}); give another database or data dir, or the version that made it"
    ))
}
