//! What the functions of the orchestrator are told; `infra/topology.yaml` sets it.

use std::{collections::HashSet, num::NonZeroU32};

use tasker_aws::{BadSetting, Queues, optional, parsed, required};
use tasker_store::Connector;

const DATABASE_URL: &str = "TASKER_DATABASE_URL";

/// The environment of a function, read.
pub(crate) struct Settings {
    /// The database, without a login.
    pub access: Connector,
    /// The secret that holds the login.
    pub database_secret: String,
    /// The secret that holds the signing keys.
    pub signing_secret: String,
    /// Where the queues are.
    pub queues: Queues,
    /// Pools that have workers.
    pub pools: HashSet<String>,
    /// Chooses the overlay of templates.
    pub environment: String,
    /// Receives after which the function's queue gives a message up.
    pub max_receives: u32,
}

impl Settings {
    pub fn from_env() -> Result<Self, BadSetting> {
        let environment = required("TASKER_ENV", "the environment whose overlay of a template applies, such as production")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if environment.len() > 64 || !environment.chars().all(allowed) {
            return Err(BadSetting::wrong("TASKER_ENV", "an environment has 1 to 64 of the characters A-Z a-z 0-9 _ -"));
        }
        Ok(Self {
            access: access(&required(DATABASE_URL, "postgres://HOST:PORT/DATABASE, without a login")?)?,
            database_secret: required("TASKER_DATABASE_SECRET", r#"the name of the secret with {"username", "password"}"#)?,
            signing_secret: required("TASKER_SIGNING_SECRET", r#"the name of the secret with {"keys": [{"id", "secret"}]}"#)?,
            queues: Queues::from_env()?,
            pools: optional("TASKER_POOLS").unwrap_or_default().split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect(),
            environment,
            max_receives: match optional("TASKER_MAX_RECEIVES") {
                Some(_) => parsed::<NonZeroU32>(
                    "TASKER_MAX_RECEIVES",
                    "the number of receives after which the queue gives a message up",
                )?
                .get(),
                // Of a function that reads no queue.
                None => u32::MAX,
            },
        })
    }
}

/// A password in the environment would be seen by everybody who may look at the function.
fn access(url: &str) -> Result<Connector, BadSetting> {
    let access = Connector::by_url(url).map_err(|e| BadSetting::wrong(DATABASE_URL, e))?;
    if access.has_login() {
        return Err(BadSetting::wrong(
            DATABASE_URL,
            "it holds a login; that belongs into the secret that TASKER_DATABASE_SECRET names, so leave it out here",
        ));
    }
    Ok(access)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_in_the_address_of_the_database_is_refused_without_repeating_it() {
        for url in [
            "postgres://u:hunter2@h/d",
            "postgres://u@h/d",
            "postgres://h/d?password=hunter2",
            "host=h password = hunter2",
            "postgres://h/d?passwor%64=hunter2",
        ] {
            let error = access(url).err().unwrap().to_string();
            assert!(error.contains("TASKER_DATABASE_SECRET") && !error.contains("hunter2"), "{error}");
        }
        assert!(access("postgres://db.example:5432/tasker?sslmode=verify-full").is_ok());
    }
}
