//! `tasker-ctl db …`: the schema of a database. These commands connect to the database, not to a server.

use clap::{Args, Subcommand};
use serde_json::json;
use tasker_process::settings::{self, BadSetting};

use crate::{
    error::Result,
    output::{self, Format, table},
};

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Apply the missing migrations
    Migrate(MigrateArgs),
    /// List all migrations, and whether they are applied
    Status(DatabaseArgs),
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Only print the rights that ROLE needs to run tasker on a migrated database, as SQL for the owner of its schema
    #[arg(long, value_name = "ROLE", num_args = 0..=1, default_missing_value = "tasker_runtime")]
    print_grants: Option<String>,
}

#[derive(Debug, Args)]
pub struct DatabaseArgs {
    /// The database's address: postgres://USER:PASSWORD@HOST:PORT/DATABASE [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

const DATABASE_URL: &str = "DATABASE_URL";

/// The URL of a database from the flag, or else the environment. An empty flag, as from an unset shell variable, counts as absent.
pub fn database_url(flag: Option<&str>) -> std::result::Result<Option<String>, BadSetting> {
    if let Some(url) = flag.filter(|url| !url.is_empty()) {
        return Ok(Some(url.to_owned()));
    }
    settings::read(DATABASE_URL, |url| tasker_server::check_url(url).map(|()| url.to_owned()).map_err(|error| error.to_string()))
}

pub async fn run(command: &DbCommand, format: Format) -> Result {
    match command {
        DbCommand::Migrate(MigrateArgs { print_grants: Some(role), .. }) => {
            let grants = tasker_server::runtime_grants(role);
            output::print_document(&json!({ "grants": grants }), format, || grants.clone())
        }
        DbCommand::Migrate(MigrateArgs { database, .. }) => migrate(&required_url(database)?, format).await,
        DbCommand::Status(database) => status(&required_url(database)?, format).await,
    }
}

fn required_url(database: &DatabaseArgs) -> std::result::Result<String, BadSetting> {
    let what = "the database's address, as postgres://USER:PASSWORD@HOST:PORT/DATABASE, or --database-url";
    database_url(database.database_url.as_deref())?.ok_or(BadSetting::Missing { name: DATABASE_URL, what })
}

async fn migrate(database_url: &str, format: Format) -> Result {
    let applied = tasker_server::migrate(database_url).await?;
    output::print_document(&json!({ "applied": applied }), format, || match &applied[..] {
        [] => "nothing to do: the schema is up to date".to_owned(),
        names => names.iter().map(|name| format!("applied {name}")).collect::<Vec<_>>().join("\n"),
    })
}

async fn status(database_url: &str, format: Format) -> Result {
    let migrations = tasker_server::migration_status(database_url).await?;
    let objects: Vec<_> = migrations.iter().map(|(name, applied)| json!({"name": name, "applied": applied})).collect();
    let row = |(name, applied): (String, bool)| vec![name, if applied { "yes" } else { "no" }.to_owned()];
    let view = || table(&["MIGRATION", "APPLIED"], migrations.into_iter().map(row));
    output::print_document(&json!({ "migrations": objects }), format, view)
}
