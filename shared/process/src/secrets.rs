//! Secrets by name, from a [`SecretSource`]: read on first use, cached in memory, re-read after a rotation.

use std::{collections::HashMap, fmt, ops::Deref, sync::Arc};

use parking_lot::Mutex;

/// A version of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The version in use.
    Current,
    /// The version that a rotation is about to put into use. There may be none.
    Pending,
}

/// The text of a secret. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Deref for Secret {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret cannot be read. `why` must not contain its value.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the secret {id} cannot be read: {why}")]
pub struct SecretError {
    pub id: String,
    pub why: String,
}

/// A store of secrets, such as AWS Secrets Manager.
pub trait SecretSource: Send + Sync {
    /// Reads the version of a secret that `stage` names.
    fn read(&self, id: &str, stage: Stage) -> impl Future<Output = Result<Secret, SecretError>> + Send;
}

/// The secrets that this process has read from a source.
#[derive(Clone)]
pub struct Secrets<S>(Arc<Inner<S>>);

struct Inner<S> {
    source: S,
    known: Mutex<HashMap<String, Secret>>,
}

impl<S: SecretSource> Secrets<S> {
    pub fn new(source: S) -> Self {
        Self(Arc::new(Inner { source, known: Mutex::default() }))
    }

    /// The cached value; reads it on first use.
    pub async fn get(&self, id: &str) -> Result<Secret, SecretError> {
        let known = self.0.known.lock().get(id).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.read(id, Stage::Current).await,
        }
    }

    /// Reads a version from the source. Caches it if it is the current one.
    pub async fn read(&self, id: &str, stage: Stage) -> Result<Secret, SecretError> {
        let secret = self.0.source.read(id, stage).await?;
        if stage == Stage::Current {
            self.0.known.lock().insert(id.to_owned(), secret.clone());
        }
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    /// Says how often it was read.
    struct Counting(AtomicU32);

    impl SecretSource for Counting {
        async fn read(&self, id: &str, stage: Stage) -> Result<Secret, SecretError> {
            Ok(format!("{id} {stage:?} {}", self.0.fetch_add(1, Relaxed)).as_str().into())
        }
    }

    #[tokio::test]
    async fn a_secret_is_cached_until_it_is_re_read_and_a_pending_version_is_not_cached() {
        let secrets = Secrets::new(Counting(AtomicU32::new(1)));
        for _ in 0..2 {
            assert_eq!(&*secrets.get("a").await.unwrap(), "a Current 1");
        }
        assert_eq!(&*secrets.read("a", Stage::Pending).await.unwrap(), "a Pending 2");
        assert_eq!(&*secrets.get("a").await.unwrap(), "a Current 1");
        assert_eq!(&*secrets.read("a", Stage::Current).await.unwrap(), "a Current 3");
        assert_eq!(&*secrets.get("a").await.unwrap(), "a Current 3");
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", Some(Secret::from("hunter2"))).contains("hunter2"));
    }
}
