//! The login of the database, from its secret. A rotation changes the password before it says so: a login that is refused is read
//! anew, then that of the rotation under way is tried, and so on for a while.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use serde::Deserialize;
use tasker_process::{SecretError, Stage};
use tasker_store::{Credentials, Login};

use crate::secrets::Secrets;

/// Looks at the secret after the first refusal, while a rotation may be under way.
const LOOKS: u32 = 11;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// What Secrets Manager keeps of a database, in its own form; other keys are ignored.
#[derive(Deserialize)]
struct Stored {
    username: String,
    password: String,
}

/// After so many looks in vain the next ones are few for a while: a wrong password must not cost each invocation half a minute.
const IN_VAIN_FOR: Duration = Duration::from_secs(60);
const FEW_LOOKS: u32 = 2;

/// The login in a secret.
pub(crate) struct SecretCredentials {
    secrets: Secrets,
    id: String,
    /// When every look was in vain.
    in_vain: Mutex<Option<SystemTime>>,
}

impl SecretCredentials {
    /// Of the secret of this name.
    pub fn new(secrets: Secrets, id: String) -> Self {
        Self { secrets, id, in_vain: Mutex::default() }
    }

    fn looks(&self) -> u32 {
        let in_vain = *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = |at: SystemTime| at.elapsed().is_ok_and(|elapsed| elapsed < IN_VAIN_FOR);
        if in_vain.is_some_and(lately) { FEW_LOOKS } else { LOOKS }
    }

    async fn find(&self, refused: u32) -> Option<Result<Login, SecretError>> {
        let stored = match refused {
            0 => self.secrets.get(&self.id).await,
            // What is in memory may be of yesterday.
            1 => self.secrets.read(&self.id, Stage::Current).await,
            n if n <= self.looks() => {
                if n > 2 {
                    tokio::time::sleep((FIRST_PAUSE * (1 << (n - 3).min(8))).min(LONGEST_PAUSE)).await;
                }
                let stage = if n % 2 == 0 { Stage::Pending } else { Stage::Current };
                match self.secrets.read(&self.id, stage).await {
                    // There is a pending version only while a rotation is under way.
                    Err(_) if stage == Stage::Pending => self.secrets.read(&self.id, Stage::Current).await,
                    found => found,
                }
            }
            _ => {
                *self.in_vain.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
                return None;
            }
        };
        Some(stored.and_then(|text| self.parse(&text)))
    }

    fn parse(&self, text: &str) -> Result<Login, SecretError> {
        let stored: Stored = serde_json::from_str(text)
            .map_err(|_| SecretError { id: self.id.clone(), why: r#"expected {"username": "…", "password": "…"}"#.into() })?;
        Ok(Login { user: stored.username, password: stored.password })
    }
}

impl Credentials for SecretCredentials {
    fn login(&self, refused: u32) -> Pin<Box<dyn Future<Output = Option<Login>> + Send + '_>> {
        Box::pin(async move {
            if refused == 1 {
                tracing::warn!("the database refused the login; the secret is read anew");
            }
            self.find(refused).await?.inspect_err(|error| tracing::error!(%error, "there is no login for the database")).ok()
        })
    }
}
