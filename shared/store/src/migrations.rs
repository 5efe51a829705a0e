//! Brings a database to this version's schema: forward only, one migration at a time, safe to start twice at once.

use refinery_core::{Migration, Runner};

use crate::{Connector, StoreError};

/// Files of `migrations/`. A list, because refinery's macro would be built with libraries of its own, for half a minute.
macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../migrations/", $name, ".sql")))),+]
    };
}

const MIGRATIONS: [(&str, &str); 7] = migrations![
    "V1__tables",
    "V2__dispatch",
    "V3__submit_and_complete",
    "V4__sweep",
    "V5__operator",
    "V6__task_detail",
    "V7__dead_letters",
];

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
    let runner = runner();
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
    let runner = runner();
    let applied = if exists[0].get(0) {
        runner.get_applied_migrations_async(&mut client).await.map_err(|e| StoreError::Bug(e.to_string()))?
    } else {
        Vec::new()
    };
    let known = runner.get_migrations().iter();
    Ok(known.map(|m| (m.to_string(), applied.iter().any(|a| a.version() == m.version()))).collect())
}

fn runner() -> Runner {
    let parsed = MIGRATIONS.map(|(name, sql)| Migration::unapplied(name, sql).expect("a name is V, its number, __ and words"));
    let mut runner = Runner::new(&parsed);
    runner.set_migration_table_name(HISTORY);
    runner
}

/// A migration fails when somebody else made the schema, or a version of ours that was never released.
fn other_schema(error: &refinery_core::Error) -> StoreError {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    StoreError::Setting(format!(
        "the database cannot be brought to this version's schema ({cause}); give another database or data dir, or the version that made it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_migrations_is_one() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations")).unwrap();
        let mut files: Vec<_> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let mut known = MIGRATIONS.map(|(name, _)| format!("{name}.sql"));
        known.sort();
        assert_eq!(files, known);
    }
}
