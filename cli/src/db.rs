//! `tasker-ctl db …`: the schema of a database. These commands need the database itself, not a server.

use clap::{Args, Subcommand};
use serde_json::json;
use tasker_process::settings::{self, BadSetting};
use tasker_store::Connector;

use crate::{
    failure::{Exit, Failure, Result},
    output::{self, Format, table},
};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Apply the migrations that are missing
    Migrate(Database),
    /// List all migrations, and which are applied
    Status(Database),
}

/// Which database.
#[derive(Debug, Args)]
pub struct Database {
    /// The database's address: postgres://USER:PASSWORD@HOST:PORT/DATABASE [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

const DATABASE_URL: &str = "DATABASE_URL";

/// The address of a database by its flag, else by the environment. An empty flag is an unset variable that a shell put in.
pub fn database_url(flag: Option<&str>) -> std::result::Result<Option<String>, BadSetting> {
    if let Some(url) = flag.filter(|url| !url.is_empty()) {
        return Ok(Some(url.to_owned()));
    }
    settings::read(DATABASE_URL, |url| match Connector::by_url(url) {
        Ok(_) => Ok(url.to_owned()),
        Err(error) => Err(without_password(&error.to_string(), url)),
    })
}

/// Runs one of the commands.
pub async fn run(command: &DbCommand, format: Format) -> Result {
    let (DbCommand::Migrate(database) | DbCommand::Status(database)) = command;
    let what = "the database's address, as postgres://USER:PASSWORD@HOST:PORT/DATABASE, or --database-url";
    let url = database_url(database.database_url.as_deref())?.ok_or(BadSetting::Missing { name: DATABASE_URL, what })?;
    match command {
        DbCommand::Migrate(_) => migrate(&url, format).await,
        DbCommand::Status(_) => status(&url, format).await,
    }
}

async fn migrate(database_url: &str, format: Format) -> Result {
    let applied = tasker_store::migrate(database_url).await.map_err(|error| failure(&error, database_url))?;
    match format {
        Format::Json => output::print_json(&json!({ "applied": applied }).to_string()),
        Format::Table if applied.is_empty() => output::print("nothing to do: the schema is of this version"),
        Format::Table => output::print(&applied.iter().map(|name| format!("applied {name}")).collect::<Vec<_>>().join("\n")),
    }
}

async fn status(database_url: &str, format: Format) -> Result {
    let migrations = tasker_store::migration_status(database_url).await.map_err(|error| failure(&error, database_url))?;
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

fn failure(error: &dyn std::error::Error, database_url: &str) -> Failure {
    Failure::new(Exit::Error, without_password(&error.to_string(), database_url))
}

/// A message about a database without its password, whoever put it in.
pub fn without_password(message: &str, database_url: &str) -> String {
    let mut message = message.to_owned();
    for secret in passwords(database_url) {
        message = message.replace(&secret, "***");
    }
    message
}

/// The password as it is written in a URL, or in a string of `name=value` pairs.
fn passwords(database_url: &str) -> Vec<String> {
    let authority = database_url.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    // A password may itself hold an @ that should have been escaped.
    let user_info = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user_info, _)| user_info);
    let in_authority = user_info.and_then(|user_info| user_info.split_once(':')).map(|(_, password)| password.to_owned());
    let named = database_url.split(['?', '&', ' ']).filter_map(|pair| pair.strip_prefix("password="));
    in_authority
        .into_iter()
        .chain(named.map(|p| p.trim_matches('\'').to_owned()))
        .filter(|password| !password.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_holds_the_password() {
        for url in
            ["postgres://me:s3cret@db:5432/x", "host=db user=me password='s3cret'", "postgres://db/x?user=me&password=s3cret"]
        {
            let message = without_password(&format!("cannot read {url}, s3cret"), url);
            assert!(!message.contains("s3cret"), "{message}");
            assert!(message.contains("***"), "{message}");
        }
        assert_eq!(without_password("nothing", "postgres://me@db/x"), "nothing");
    }
}
