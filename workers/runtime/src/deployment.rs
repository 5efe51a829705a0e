//! What a worker of a deployment is told by its environment; `infra/topology.yaml` sets it.

use std::time::Duration;

use tasker_aws::Destination;
use tasker_aws::{BadSetting, Queues, optional, parsed, required};
use tasker_worker::Settings;

use crate::PLACES;

const POOL: &str = "TASKER_POOL";
const TIMEOUT: &str = "TASKER_TIMEOUT_SECONDS";
const CONCURRENT: &str = "TASKER_MAX_CONCURRENT_HANDLERS";

/// The environment, read.
pub struct Deployment {
    /// Where the queues are.
    pub queues: Queues,
    /// The URL of the pool's own.
    pub queue_url: String,
    /// Of the loop.
    pub settings: Settings,
}

impl Deployment {
    /// Flags go before the environment.
    pub fn from_env(pool: Option<String>, concurrent: Option<u32>) -> Result<Self, BadSetting> {
        let queues = Queues::from_env()?;
        let pool = match pool {
            Some(pool) => pool,
            None => required(POOL, "the name of the pool that this worker serves")?,
        };
        let queue_url = queues
            .url(&Destination::Worker(pool.clone()))
            .ok_or_else(|| BadSetting::wrong(POOL, format_args!("no queue can be called worker-{pool}")))?;
        let mut settings = Settings { worker: format!("{pool}/{}", instance()), log_answers: true, ..Settings::new(pool) };
        let concurrent = match concurrent {
            Some(places) => Some(places),
            None => concurrent_by_env()?,
        };
        settings.max_concurrent_handlers = concurrent.map_or(settings.max_concurrent_handlers, |places| places as usize);
        Ok(Self { queues, queue_url, settings })
    }
}

impl Deployment {
    /// How long an invocation of the function may take, which Lambda does not tell.
    pub fn timeout(&self) -> Result<Duration, BadSetting> {
        let what = "the function's time-out in seconds, from 1 to 900";
        let seconds: u64 = parsed(TIMEOUT, what)?;
        if !(1..=900).contains(&seconds) {
            return Err(BadSetting::wrong(TIMEOUT, format_args!("expected {what}, not `{seconds}`")));
        }
        Ok(Duration::from_secs(seconds))
    }
}

fn concurrent_by_env() -> Result<Option<u32>, BadSetting> {
    let Some(text) = optional(CONCURRENT) else { return Ok(None) };
    let what = "the number of steps that run at once, from 1 to 1000";
    let places: u32 = parsed(CONCURRENT, what)?;
    if !PLACES.contains(&i64::from(places)) {
        return Err(BadSetting::wrong(CONCURRENT, format_args!("expected {what}, not `{text}`")));
    }
    Ok(Some(places))
}

/// What an operator finds the instance's logs by. In a container the process's number is always the same.
fn instance() -> String {
    optional("AWS_LAMBDA_LOG_STREAM_NAME").or_else(|| optional("HOSTNAME")).unwrap_or_else(|| std::process::id().to_string())
}
