//! The state that an instance of a function keeps between invocations: clients, secrets, and the engine.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_sdk_secretsmanager::Client;
use tasker_aws::{Clients, SqsQueue, SqsSource};
use tasker_engine::{Engine, EngineSettings};
use tasker_process::{BadSetting, SecretError, Stage, settings::required};
use tasker_queue::Content;
use tasker_store::{Connector, Store, StoreError};
use tasker_wire::limits;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    secrets::{SecretCredentials, Secrets, SecretsManager, signing_keys},
    settings::FunctionSettings,
};

/// An instance works on one invocation at a time, so one connection is enough.
const CONNECTIONS: usize = 1;
/// The minimum time between two reads of the signing keys: a forged key must not cause a read each time.
const KEYS_FOR: Duration = Duration::from_secs(30);

#[cfg(not(feature = "failpoints"))]
pub(crate) type Outlet = SqsQueue;
#[cfg(feature = "failpoints")]
pub(crate) type Outlet = crate::failpoints::DyingQueue;

pub(crate) type FunctionEngine = Engine<Outlet>;

#[derive(Clone)]
pub struct Instance(Arc<Inner>);

struct Inner {
    clients: Clients,
    secrets: Secrets,
    settings: FunctionSettings,
    /// The engine, and when its signing keys were read.
    engine: Mutex<Option<(Arc<FunctionEngine>, SystemTime)>>,
}

/// Why there is no engine now, or why it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Instance {
    /// Reads the environment. Connects to nothing.
    pub async fn from_env() -> Result<Self, BadSetting> {
        let settings = FunctionSettings::from_env()?;
        required("AWS_REGION", "the region of the queues and secrets, such as eu-central-1")?;
        let clients = Clients::from_env().await;
        let secrets = Secrets::new(SecretsManager(Client::new(&clients.config)));
        Ok(Self(Arc::new(Inner { clients, secrets, settings, engine: Mutex::default() })))
    }

    /// Reads the secrets in the background, while the platform delivers the first event. Their first use reports a failure.
    pub fn warm_up(&self) {
        let instance = self.clone();
        tokio::spawn(async move {
            let login = async { instance.0.secrets.get(&instance.0.settings.database_secret).await.is_ok() };
            let engine = async { instance.engine().await.is_ok() };
            tokio::join!(login, engine);
        });
    }

    /// The engine. The first call reads the signing keys.
    pub(crate) async fn engine(&self) -> Result<Arc<FunctionEngine>, EngineError> {
        let mut kept = self.0.engine.lock().await;
        if let Some((engine, _)) = &*kept {
            return Ok(engine.clone());
        }
        let engine = self.make_engine().await?;
        *kept = Some((engine.clone(), SystemTime::now()));
        Ok(engine)
    }

    /// Makes the next call of [`Self::engine`] read the signing keys again, because the engine does not know a key.
    pub(crate) async fn forget_engine(&self) {
        let is_old = |(_, read_at): &mut (_, SystemTime)| read_at.elapsed().is_ok_and(|age| age > KEYS_FOR);
        self.0.engine.lock().await.take_if(is_old);
    }

    async fn make_engine(&self) -> Result<Arc<FunctionEngine>, EngineError> {
        let settings = &self.0.settings;
        let text = self.0.secrets.read(&settings.signing_secret, Stage::Current).await?;
        let signing_keys =
            signing_keys(&text).map_err(|why| SecretError { id: settings.signing_secret.clone(), why: why.into() })?;
        let queue = SqsQueue::new(self.0.clients.sqs.clone(), settings.queues.clone());
        #[cfg(feature = "failpoints")]
        let queue = crate::failpoints::DyingQueue(queue);
        let engine_settings = EngineSettings {
            environment: settings.environment.clone(),
            signing_keys,
            pools: settings.pools.clone(),
            revise_templates: false,
            seed: Uuid::new_v4().as_u128() as u64,
            send_lease: Some(Duration::from_millis(limits::SEND_LEASE_MS.unsigned_abs())),
            in_process: None,
        };
        Ok(Engine::new(Store::over(self.connector(), CONNECTIONS)?, queue, engine_settings))
    }

    /// Connects to the database with the login of its secret.
    pub(crate) fn connector(&self) -> Connector {
        let Inner { secrets, settings, .. } = &*self.0;
        let credentials = SecretCredentials::new(secrets.clone(), settings.database_secret.clone());
        settings.connector.clone().with_logins(Arc::new(credentials))
    }

    /// The queue of an event.
    pub(crate) fn source<M: Content>(&self, queue_arn: &str) -> Option<SqsSource<M>> {
        let url = self.0.settings.queues.url_of_arn(queue_arn)?;
        Some(SqsSource::new(self.0.clients.sqs.clone(), url, CancellationToken::new()))
    }

    pub(crate) fn max_receives(&self) -> u32 {
        self.0.settings.max_receives
    }
}
