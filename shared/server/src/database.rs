//! The schema of a database. No error contains its password.

use std::fmt::Display;

use crate::{Error, Result};

/// Checks that a database URL can be parsed.
pub fn check_url(database_url: &str) -> Result {
    tasker_store::Connector::by_url(database_url).map(drop).map_err(|error| without_password(&error, database_url))
}

/// Migrates a database to this version's schema. Returns the names of the applied migrations.
pub async fn migrate(database_url: &str) -> Result<Vec<String>> {
    tasker_store::migrate(database_url).await.map_err(|error| without_password(&error, database_url))
}

/// Every migration of this version, and whether it is applied.
pub async fn migration_status(database_url: &str) -> Result<Vec<(String, bool)>> {
    tasker_store::migration_status(database_url).await.map_err(|error| without_password(&error, database_url))
}

/// An error about a database, with its password replaced.
pub fn without_password(error: &impl Display, database_url: &str) -> Error {
    let message = passwords(database_url).into_iter().fold(error.to_string(), |message, secret| message.replace(&secret, "***"));
    Error(message)
}

/// The passwords in a URL, or in a string of `name=value` pairs.
fn passwords(database_url: &str) -> Vec<String> {
    let authority = database_url.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    // A password may contain an @ that should have been escaped.
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
            let message = without_password(&format!("cannot read {url}, s3cret"), url).to_string();
            assert!(!message.contains("s3cret"), "{message}");
            assert!(message.contains("***"), "{message}");
        }
        assert_eq!(without_password(&"nothing", "postgres://me@db/x").to_string(), "nothing");
    }
}
