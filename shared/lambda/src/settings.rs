//! The settings of the functions. `infra/topology.yaml` sets them.

use std::collections::HashSet;

use tasker_aws::{Destination, Queues};
use tasker_process::settings::{self, BadSetting, number, required};
use tasker_store::Connector;

const DATABASE_URL: &str = "TASKER_DATABASE_URL";
/// The maximum of SQS.
const MAX_RECEIVES: i64 = 1000;

pub(crate) struct FunctionSettings {
    /// Without a login.
    pub connector: Connector,
    /// The name of the secret with the login.
    pub database_secret: String,
    /// The name of the secret with the signing keys.
    pub signing_secret: String,
    pub queues: Queues,
    pub pools: HashSet<String>,
    pub environment: String,
    /// Receives after which the function's queue gives up a message.
    pub max_receives: u32,
}

impl FunctionSettings {
    pub fn from_env() -> Result<Self, BadSetting> {
        let environment = settings::read("TASKER_ENV", settings::environment)?;
        let queues = Queues::from_env()?;
        let overlay = "the environment that selects the overlays of templates, such as production";
        let tries = "the number of receives after which the queue gives up a message";
        Ok(Self {
            connector: connector(&required(DATABASE_URL, "postgres://HOST:PORT/DATABASE, without a login")?)?,
            database_secret: required("TASKER_DATABASE_SECRET", r#"the name of the secret with {"username", "password"}"#)?,
            signing_secret: required("TASKER_SIGNING_SECRET", r#"the name of the secret with {"keys": [{"id", "secret"}]}"#)?,
            pools: settings::read("TASKER_POOLS", |names| pools(names, &queues))?.unwrap_or_default(),
            queues,
            environment: environment.ok_or(BadSetting::Missing { name: "TASKER_ENV", what: overlay })?,
            // A function without a queue has no limit.
            max_receives: number("TASKER_MAX_RECEIVES", tries, 1..=MAX_RECEIVES)?.unwrap_or(u32::MAX),
        })
    }
}

/// The pools, each of which has a queue.
fn pools(names: &str, queues: &Queues) -> Result<HashSet<String>, &'static str> {
    let pool = |name: &str| {
        let has_queue = !name.is_empty() && queues.url(&Destination::Worker(name.to_owned())).is_some();
        has_queue.then(|| name.to_owned())
    };
    names.split(',').map(pool).collect::<Option<_>>().ok_or(
        "expected names of pools, separated by commas, such as rust,python; each is part of a queue's name and has only A-Z a-z 0-9 _ -",
    )
}

/// Rejects a login: everyone with read access to the function sees its environment.
fn connector(url: &str) -> Result<Connector, BadSetting> {
    let connector = Connector::by_url(url).map_err(|e| BadSetting::wrong(DATABASE_URL, e))?;
    if connector.has_login() {
        return Err(BadSetting::wrong(
            DATABASE_URL,
            "it contains a login; move the login to the secret that TASKER_DATABASE_SECRET names",
        ));
    }
    Ok(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_a_name_that_its_queue_can_have() {
        let queues = Queues::new("https://sqs.example/123/shop-").unwrap();
        assert_eq!(pools("rust,py_3-x", &queues), Ok(["rust".to_owned(), "py_3-x".to_owned()].into()));
        // The prefix and `worker-` leave 68 of the 80 characters that a queue's name has.
        assert!(pools(&"x".repeat(68), &queues).is_ok());
        for wrong in ["rust, python", "rust,", ",", "a.b", "ä", "postgres://u:hunter2@h/d", &"x".repeat(69)] {
            let why = pools(wrong, &queues).unwrap_err();
            assert!(why.starts_with("expected names of pools, separated by commas"), "{why}");
        }
    }

    #[test]
    fn a_login_in_the_address_of_the_database_is_refused_without_repeating_it() {
        for url in [
            "postgres://u:hunter2@h/d",
            "postgres://u@h/d",
            "postgres://h/d?password=hunter2",
            "host=h password = hunter2",
            "postgres://h/d?passwor%64=hunter2",
        ] {
            let error = connector(url).err().unwrap().to_string();
            assert!(error.contains("TASKER_DATABASE_SECRET") && !error.contains("hunter2"), "{error}");
        }
        assert!(connector("postgres://db.example:5432/tasker?sslmode=verify-full").is_ok());
    }
}
