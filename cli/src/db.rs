//! `tasker-ctl db …`: the schema of a database. These commands need the database itself, not a server.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    failure::Result,
    output::{self, Format, table},
};

#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Apply the migrations that are missing
    Migrate(Database),
    /// List all migrations, and which are applied
    Status(Database),
}

#[derive(Debug, Args)]
pub struct Database {
    /// The database's address: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: String,
}

pub async fn run(command: &DbCommand, format: Format) -> Result {
    match command {
        DbCommand::Migrate(Database { database_url }) => migrate(database_url, format).await,
        DbCommand::Status(Database { database_url }) => status(database_url, format).await,
    }
}

async fn migrate(database_url: &str, format: Format) -> Result {
    let applied = tasker_server::migrate(database_url).await?;
    match format {
        Format::Json => output::print_json(&json!({ "applied": applied }).to_string()),
        Format::Table if applied.is_empty() => output::print("nothing to do: the schema is of this version"),
        Format::Table => output::print(&applied.iter().map(|name| format!("applied {name}")).collect::<Vec<_>>().join("\n")),
    }
}

async fn status(database_url: &str, format: Format) -> Result {
    let migrations = tasker_server::migration_status(database_url).await?;
    match format {
        Format::Json => {
            let rows: Vec<_> = migrations.iter().map(|(name, applied)| json!({"name": name, "applied": applied})).collect();
            output::print_json(&json!({ "migrations": rows }).to_string())
        }
        Format::Table => {
            let row = |(name, applied): (String, bool)| vec![name, if applied { "yes" } else { "no" }.to_owned()];
            output::print(&table(&["MIGRATION", "APPLIED"], migrations.into_iter().map(row)))
        }
    }
}
