//! Secrets Manager as the source of a process's secrets.

use aws_sdk_secretsmanager::Client;
use tasker_aws::said;
use tasker_process::{Secret, SecretError, SecretSource, Stage};

/// The secrets of an account, as far as this process has needed them.
pub type Secrets = tasker_process::Secrets<SecretsManager>;

/// The secrets of an account.
#[derive(Clone)]
pub struct SecretsManager(pub Client);

impl SecretSource for SecretsManager {
    async fn read(&self, id: &str, stage: Stage) -> Result<Secret, SecretError> {
        let stage = match stage {
            Stage::Current => "AWSCURRENT",
            Stage::Pending => "AWSPENDING",
        };
        let error = |why| SecretError { id: id.to_owned(), why };
        let answer = self.0.get_secret_value().secret_id(id).version_stage(stage).send().await.map_err(|e| error(said(&e)))?;
        answer.secret_string().map(Secret::from).ok_or_else(|| error("it holds no text".into()))
    }
}
