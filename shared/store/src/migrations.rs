//! Migrates a database to this version's schema: forward only, one migration at a time. Concurrent runs are safe.

use refinery_core::{Migration, Runner};

use crate::{Connector, StoreError};

/// The files of `migrations/`. This list replaces refinery's macro, whose own dependencies take half a minute to build.
macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../migrations/", $name, ".sql")))),+]
    };
}

const MIGRATIONS: [(&str, &str); 6] =
    migrations!["V1__tables", "V2__dispatch", "V3__submit_and_complete", "V4__sweep", "V5__operator", "V6__task_detail",];

const HISTORY: &str = "tasker.schema_history";
/// An arbitrary constant. The holder of this lock migrates.
const LOCK: i64 = 0x7461_736b_6572;

/// Applies the missing migrations, and returns their names.
pub async fn migrate(database_url: &str) -> Result<Vec<String>, StoreError> {
    migrate_by(&Connector::by_url(database_url)?).await
}

/// As [`migrate`], over an existing connector.
pub async fn migrate_by(connector: &Connector) -> Result<Vec<String>, StoreError> {
    // A separate connection: the lock belongs to its session and ends with it.
    let (mut client, _) = connector.connect().await?;
    client.batch_execute("create schema if not exists tasker").await.or_else(|e| {
        // Concurrent runs may both find it missing.
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

/// All migrations of this version, and whether each is applied.
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
    let parsed = MIGRATIONS.map(|(name, sql)| Migration::unapplied(name, sql).expect("a name is V, a number, __ and words"));
    let mut runner = Runner::new(&parsed);
    runner.set_migration_table_name(HISTORY);
    runner
}

/// A migration fails on a schema that another program or an unreleased version created.
fn other_schema(error: &refinery_core::Error) -> StoreError {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    StoreError::Setting(format!(
        "the database cannot be migrated to this version's schema ({cause}); use another database or data directory, or the version that created it"
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
