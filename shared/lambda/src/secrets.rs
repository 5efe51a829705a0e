//! The two secrets of the functions, in Secrets Manager: the login of the database, and the signing keys.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, SystemTime},
};

use aws_sdk_secretsmanager::Client;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tasker_aws::call_error;
use tasker_domain::token::SigningKey;
use tasker_process::{Secret, SecretError, SecretSource, Stage};
use tasker_store::{Credentials, Login};
use tokio::sync::Mutex;

/// Rejected logins per attempt to connect, while a rotation may be in progress.
const TRIES: u32 = 11;
/// After all of them failed, later attempts to connect try fewer logins for a while: a wrong password must not cost every invocation
/// half a minute.
const FEW_TRIES: u32 = 2;
const FEW_TRIES_FOR: Duration = Duration::from_secs(60);
/// The pause between two tries. It doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// The minimum length of a signing key.
const KEY_BYTES: usize = 32;

pub(crate) type Secrets = tasker_process::Secrets<SecretsManager>;

#[derive(Clone)]
pub(crate) struct SecretsManager(pub Client);

impl SecretSource for SecretsManager {
    async fn read(&self, id: &str, stage: Stage) -> Result<Secret, SecretError> {
        let stage = match stage {
            Stage::Current => "AWSCURRENT",
            Stage::Pending => "AWSPENDING",
        };
        let error = |why| SecretError { id: id.to_owned(), why };
        let answer =
            self.0.get_secret_value().secret_id(id).version_stage(stage).send().await.map_err(|e| error(call_error(&e)))?;
        answer.secret_string().map(Secret::from).ok_or_else(|| error("it is binary; store it as text".into()))
    }
}

/// The login of the database. A rotation changes the password before the secret. So a rejected login is tried again for a while,
/// alternately with the pending and the current version of the secret.
pub(crate) struct SecretCredentials {
    secrets: Secrets,
    id: String,
    failed_at: Mutex<Option<SystemTime>>,
}

impl SecretCredentials {
    pub fn new(secrets: Secrets, id: String) -> Self {
        Self { secrets, id, failed_at: Mutex::default() }
    }

    async fn tries(&self) -> u32 {
        let age = self.failed_at.lock().await.and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < FEW_TRIES_FOR) { FEW_TRIES } else { TRIES }
    }

    async fn find(&self, refused: u32) -> Result<Login, SecretError> {
        if refused > 2 {
            tokio::time::sleep((FIRST_PAUSE * (1 << (refused - 3).min(8))).min(LONGEST_PAUSE)).await;
        }
        let text = match refused {
            0 => self.secrets.get(&self.id).await,
            n if n % 2 == 1 => self.secrets.read(&self.id, Stage::Current).await,
            _ => match self.secrets.read(&self.id, Stage::Pending).await {
                // A pending version exists only during a rotation.
                Err(_) => self.secrets.read(&self.id, Stage::Current).await,
                found => found,
            },
        };
        self.parse(&text?)
    }

    fn parse(&self, text: &str) -> Result<Login, SecretError> {
        /// The format of Secrets Manager for databases. Other keys are ignored.
        #[derive(Deserialize)]
        struct Stored {
            username: String,
            password: String,
        }
        let expected = r#"expected {"username": "…", "password": "…"}"#;
        let stored = serde_json::from_str::<Stored>(text);
        stored
            .map(|Stored { username: user, password }| Login { user, password })
            .map_err(|_| SecretError { id: self.id.clone(), why: expected.into() })
    }
}

impl Credentials for SecretCredentials {
    fn login(&self, refused: u32) -> Pin<Box<dyn Future<Output = Option<Login>> + Send + '_>> {
        Box::pin(async move {
            if refused == 1 {
                tracing::warn!("the database rejected the login; reading its secret again");
            }
            if refused > self.tries().await {
                *self.failed_at.lock().await = Some(SystemTime::now());
                return None;
            }
            self.find(refused).await.inspect_err(|error| tracing::error!(%error, "the database login cannot be read")).ok()
        })
    }
}

/// Reads `{"keys": [{"id", "secret"}]}`. Errors do not repeat a secret.
pub(crate) fn signing_keys(text: &str) -> Result<Vec<SigningKey>, &'static str> {
    #[derive(Deserialize)]
    struct Keys {
        keys: Vec<Key>,
    }
    #[derive(Deserialize)]
    struct Key {
        id: String,
        secret: String,
    }
    let Keys { keys } = serde_json::from_str(text).map_err(|_| r#"expected {"keys": [{"id": "…", "secret": "base64"}]}"#)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let read = |key: Key| {
        if key.id.is_empty() || key.id.len() > 16 || !key.id.chars().all(allowed) {
            return Err("the id of a key must have 1 to 16 of the characters a-z 0-9 -");
        }
        let secret = STANDARD.decode(key.secret).map_err(|_| "the secret of a key must be base64")?;
        if secret.len() < KEY_BYTES {
            return Err("the secret of a key must have at least 32 bytes");
        }
        Ok(SigningKey { id: key.id, secret })
    };
    let keys = keys.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err("it contains no key; add one") } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_keys_are_read_and_errors_do_not_repeat_them() {
        let secret = STANDARD.encode([7u8; 32]);
        let keys = signing_keys(&format!(
            r#"{{"keys": [{{"id": "new", "secret": "{secret}"}}, {{"id": "old", "secret": "{secret}"}}]}}"#
        ));
        assert_eq!(keys.unwrap().iter().map(|k| k.id.as_str()).collect::<Vec<_>>(), ["new", "old"]);
        for (text, why) in [
            ("x", "expected"),
            (r#"{"keys": []}"#, "no key"),
            (r#"{"keys": [{"id": "A", "secret": ""}]}"#, "id of a key"),
            (r#"{"keys": [{"id": "a", "secret": "!"}]}"#, "base64"),
            (r#"{"keys": [{"id": "a", "secret": "c2hvcnQ="}]}"#, "32 bytes"),
        ] {
            let error = signing_keys(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
