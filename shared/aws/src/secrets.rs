//! Secrets: read when they are first needed, kept in memory, and read anew when one turns out to be of yesterday.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_secretsmanager::Client;

use crate::errors::said;

/// Which version of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// That is in use.
    Current,
    /// That a rotation is about to put into use; there may be none.
    Pending,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Current => "AWSCURRENT",
            Self::Pending => "AWSPENDING",
        }
    }
}

/// A secret cannot be had. Never says what is in one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the secret {id} cannot be read: {why}")]
pub struct SecretError {
    /// Its name.
    pub id: String,
    /// In a sentence.
    pub why: String,
}

/// The secrets of an account, as far as this process needs them.
#[derive(Clone)]
pub struct Secrets {
    client: Client,
    known: Arc<Mutex<HashMap<String, Arc<str>>>>,
}

impl Secrets {
    /// None is read yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: Arc::default() }
    }

    /// The text of a secret; asked for once.
    pub async fn get(&self, id: &str) -> Result<Arc<str>, SecretError> {
        if let Some(known) = self.lock().get(id) {
            return Ok(known.clone());
        }
        self.read(id, Stage::Current).await
    }

    /// The text of a secret as it is now.
    pub async fn read(&self, id: &str, stage: Stage) -> Result<Arc<str>, SecretError> {
        let error = |why| SecretError { id: id.to_owned(), why };
        let request = self.client.get_secret_value().secret_id(id).version_stage(stage.as_str());
        let answer = request.send().await.map_err(|e| error(said(&e)))?;
        let text: Arc<str> = answer.secret_string().ok_or_else(|| error("it holds no text".into()))?.into();
        if stage == Stage::Current {
            self.lock().insert(id.to_owned(), text.clone());
        }
        Ok(text)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<str>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
