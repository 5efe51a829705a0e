//! Migrates a database to this version's schema: forward only, one migration at a time. Concurrent runs are safe.

use std::fmt::Display;

use refinery_core::{Migration, Runner, error::Kind};
use tokio_postgres::{Client, error::SqlState};

use crate::{Connector, StoreError, access::Access, ownership::check_sessions};

/// The files of `migrations/`. This list replaces refinery's macro, whose own dependencies take half a minute to build.
macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../../migrations/", $name, ".sql")))),+]
    };
}

const MIGRATIONS: [(&str, &str); 9] = migrations![
    "V1__tables",
    "V2__dispatch",
    "V3__submit_and_complete",
    "V4__sweep",
    "V5__operator",
    "V6__task_detail",
    "V7__ordinary_steps",
    "V8__dynamic_steps",
    "V9__dead_letters",
];

const HISTORY: &str = "tasker.schema_history";
/// An arbitrary constant. The holder of this lock migrates.
const LOCK: i64 = 0x7461_736b_6572;

/// A role or a database may bound statements and locks more tightly than a migration can bear.
const SETTINGS: &str = "set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = '60s';";

/// Applies the missing migrations, and returns their names. Writes nothing if none is missing.
pub async fn migrate(database_url: &str) -> Result<Vec<String>, StoreError> {
    migrate_by(&Connector::by_url(database_url)?).await
}

/// As [`migrate`], over an existing connector.
pub async fn migrate_by(connector: &Connector) -> Result<Vec<String>, StoreError> {
    let connector = connector.clone().with_settings(SETTINGS);
    // A separate connection: the lock belongs to its session and ends with it.
    let (mut client, _) = connector.open().await?;
    let access = Access::read(&client).await?;
    if access.has_history && is_up_to_date(&mut client, &access).await? {
        return Ok(Vec::new());
    }
    access.check_may_migrate()?;
    check_sessions(&connector, &client).await?;
    if !access.has_schema {
        create_schema(&client).await?;
    }
    client.execute_typed("select pg_advisory_lock($1)", &[(&LOCK, tokio_postgres::types::Type::INT8)]).await?;
    let report = runner().run_async(&mut client).await;
    let report = report.map_err(|e| match client.is_closed() {
        true => StoreError::Unavailable("the connection was lost; run the migrations again".into()),
        false => refused(&e),
    })?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// All migrations of this version, and whether each is applied.
pub async fn migration_status(database_url: &str) -> Result<Vec<(String, bool)>, StoreError> {
    let (mut client, _) = Connector::by_url(database_url)?.open().await?;
    let access = Access::read(&client).await?;
    let applied = if access.has_history { applied(&mut client, &access).await? } else { Vec::new() };
    let runner = runner();
    check_known(&applied, &runner)?;
    let known = runner.get_migrations().iter();
    Ok(known.map(|m| (m.to_string(), applied.iter().any(|a| a.version() == m.version()))).collect())
}

async fn create_schema(client: &Client) -> Result<(), StoreError> {
    let created = client.batch_execute("create schema tasker").await;
    // Concurrent runs may both find it missing.
    Ok(created.or_else(|e| if e.code().is_some_and(|c| c.code() == "23505" || c.code() == "42P06") { Ok(()) } else { Err(e) })?)
}

/// Whether exactly this version's migrations are applied.
async fn is_up_to_date(client: &mut Client, access: &Access) -> Result<bool, StoreError> {
    let applied = applied(client, access).await?;
    let runner = runner();
    check_known(&applied, &runner)?;
    Ok(applied.len() == runner.get_migrations().len())
}

fn check_known(applied: &[Migration], runner: &Runner) -> Result<(), StoreError> {
    let Some(foreign) = applied.iter().find(|applied| !runner.get_migrations().contains(applied)) else { return Ok(()) };
    Err(other_schema(&format!("{foreign} is applied, which this version does not have or has with other content")))
}

async fn applied(client: &mut Client, access: &Access) -> Result<Vec<Migration>, StoreError> {
    access.check_may_read()?;
    runner().get_applied_migrations_async(client).await.map_err(|e| refused(&e))
}

fn runner() -> Runner {
    let parsed = MIGRATIONS.map(|(name, sql)| Migration::unapplied(name, sql).expect("a name is V, a number, __ and words"));
    let mut runner = Runner::new(&parsed);
    runner.set_migration_table_name(HISTORY);
    runner
}

/// What the server or refinery says against a migration.
fn refused(error: &refinery_core::Error) -> StoreError {
    // Its own text hides what the server says.
    let Kind::Connection(what, source) = error.kind() else { return other_schema(error) };
    let Some(by_server) = source.downcast_ref::<tokio_postgres::Error>() else { return other_schema(error) };
    match StoreError::of(by_server) {
        StoreError::Bug(why) if by_server.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            StoreError::Setting(format!("{what}: {why}; run `tasker-ctl db migrate` as the owner of the schema tasker"))
        }
        // A schema that another program or an unreleased version created.
        StoreError::Bug(why) => other_schema(&format!("{what}: {why}")),
        other => other,
    }
}

fn other_schema(why: &impl Display) -> StoreError {
    StoreError::Setting(format!(
        "the database cannot be migrated to this version's schema ({why}); use another database or data directory, or the version that created it"
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
