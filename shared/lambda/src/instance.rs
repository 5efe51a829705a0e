//! What an instance of a function keeps over its invocations: clients, secrets, and the engine over one connection to the database.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_secretsmanager::Client;
use axum::Router;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tasker_aws::{Clients, Content, SqsQueue, SqsSource};
use tasker_domain::token::SigningKey;
use tasker_engine::Engine;
use tasker_process::{BadSetting, SecretError, Stage, settings::required};
use tasker_store::{Connector, Store, StoreError};
use tasker_wire::limits;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    logins::SecretCredentials,
    secrets::{Secrets, SecretsManager},
    settings::FunctionSettings,
};

/// An instance works on one invocation at a time, so one connection is enough.
const CONNECTIONS: usize = 1;
/// Bytes of a signing key at least.
const KEY_BYTES: usize = 32;

#[cfg(not(feature = "failpoints"))]
pub(crate) type Outlet = SqsQueue;
#[cfg(feature = "failpoints")]
pub(crate) type Outlet = crate::failpoints::Deadly;

/// The engine as functions have it.
pub(crate) type FunctionEngine = Engine<Outlet>;

/// An instance of a function.
#[derive(Clone)]
pub struct Instance(Arc<Inner>);

struct Inner {
    clients: Clients,
    secrets: Secrets,
    settings: FunctionSettings,
    engine: Mutex<Option<Made>>,
}

/// An engine, and when its keys were read.
struct Made {
    engine: Arc<FunctionEngine>,
    router: Option<Router>,
    at: SystemTime,
}

/// How long an engine is kept although it met a key that it does not know: a forged key must not cost a read each time.
const KEYS_FOR: Duration = Duration::from_secs(30);

/// Why an instance has no engine now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoEngine {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Instance {
    /// An instance by the environment; talks to nobody yet.
    pub async fn from_env() -> Result<Self, BadSetting> {
        let settings = FunctionSettings::from_env()?;
        required("AWS_REGION", "the region of the queues and secrets, such as eu-central-1")?;
        let clients = Clients::from_env().await;
        let secrets = Secrets::new(SecretsManager(Client::new(&clients.config)));
        Ok(Self(Arc::new(Inner { clients, secrets, settings, engine: Mutex::default() })))
    }

    /// Reads the secrets while the platform still looks for the first event.
    pub fn warm_up(&self) {
        let instance = self.clone();
        tokio::spawn(async move {
            // What fails here fails again, and is told, when it is needed.
            let login = async { instance.0.secrets.get(&instance.0.settings.database_secret).await.is_ok() };
            let engine = async { instance.engine().await.is_ok() };
            tokio::join!(login, engine);
        });
    }

    /// The engine; made once its signing keys are known.
    pub(crate) async fn engine(&self) -> Result<Arc<FunctionEngine>, NoEngine> {
        Ok(self.made().await?.engine.clone())
    }

    /// The router over the engine; made once for each. A function has one.
    pub(crate) async fn router(&self, make: impl FnOnce(Arc<FunctionEngine>) -> Router) -> Result<Router, NoEngine> {
        let mut made = self.made().await?;
        let Made { engine, router, .. } = &mut *made;
        Ok(router.get_or_insert_with(|| make(engine.clone())).clone())
    }

    async fn made(&self) -> Result<MappedMutexGuard<'_, Made>, NoEngine> {
        let mut made = self.0.engine.lock().await;
        if made.is_none() {
            *made = Some(Made { engine: self.make_engine().await?, router: None, at: SystemTime::now() });
        }
        Ok(MutexGuard::map(made, |made| made.as_mut().expect("it was just made")))
    }

    /// The next engine reads the signing keys anew: one was met that this one does not know.
    pub(crate) async fn forget_engine(&self) {
        let mut made = self.0.engine.lock().await;
        if made.as_ref().is_some_and(|made| made.at.elapsed().is_ok_and(|age| age > KEYS_FOR)) {
            *made = None;
        }
    }

    async fn make_engine(&self) -> Result<Arc<FunctionEngine>, NoEngine> {
        let settings = &self.0.settings;
        let text = self.0.secrets.read(&settings.signing_secret, Stage::Current).await?;
        let signing_keys =
            signing_keys(&text).map_err(|why| SecretError { id: settings.signing_secret.clone(), why: why.into() })?;
        let queue = SqsQueue::new(self.0.clients.sqs.clone(), settings.queues.clone());
        #[cfg(feature = "failpoints")]
        let queue = crate::failpoints::Deadly(queue);
        let engine_settings = tasker_engine::EngineSettings {
            environment: settings.environment.clone(),
            signing_keys,
            pools: settings.pools.clone(),
            revise_templates: false,
            seed: Uuid::new_v4().as_u128() as u64,
            send_lease: Some(Duration::from_millis(limits::SEND_LEASE_MS.unsigned_abs())),
            in_process: None,
        };
        Ok(Engine::new(Store::over(self.access(), CONNECTIONS)?, queue, engine_settings))
    }

    /// The way to the database, with the login of its secret.
    pub(crate) fn access(&self) -> Connector {
        let logins = SecretCredentials::new(self.0.secrets.clone(), self.0.settings.database_secret.clone());
        self.0.settings.access.clone().with_logins(Arc::new(logins))
    }

    /// The queue that an event came from.
    pub(crate) fn source<M: Content>(&self, queue_arn: &str) -> Option<SqsSource<M>> {
        let url = self.0.settings.queues.url_of_arn(queue_arn)?;
        Some(SqsSource::new(self.0.clients.sqs.clone(), url, CancellationToken::new()))
    }

    /// Receives after which the function's queue gives a message up.
    pub(crate) fn max_receives(&self) -> u32 {
        self.0.settings.max_receives
    }
}

/// Reads `{"keys": [{"id", "secret"}]}`.
fn signing_keys(text: &str) -> Result<Vec<SigningKey>, &'static str> {
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
            return Err("the id of a key has 1 to 16 of the characters a-z 0-9 -");
        }
        let secret = STANDARD.decode(key.secret).map_err(|_| "the secret of a key is base64")?;
        if secret.len() < KEY_BYTES {
            Err("the secret of a key has at least 32 bytes")
        } else {
            Ok(SigningKey { id: key.id, secret })
        }
    };
    let keys: Vec<SigningKey> = keys.into_iter().map(read).collect::<Result<_, _>>()?;
    if keys.is_empty() { Err("it holds no key") } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_keys_are_read_and_bad_ones_are_told_without_repeating_them() {
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
