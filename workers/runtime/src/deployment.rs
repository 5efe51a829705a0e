//! The settings of a deployed worker; `infra/topology.yaml` sets them.

use std::time::Duration;

use tasker_aws::{Destination, Queues};
use tasker_process::settings::{BadSetting, number, optional, required};
use tasker_worker::WorkerSettings;

use crate::{PLACES, READY};

const POOL: &str = "TASKER_POOL";
const TIMEOUT: &str = "TASKER_TIMEOUT_SECONDS";
const READY_TIMEOUT: &str = "TASKER_READY_TIMEOUT_SECONDS";
const CONCURRENT: &str = "TASKER_MAX_CONCURRENT_HANDLERS";

pub struct Deployment {
    pub queues: Queues,
    /// The URL of the pool's own queue.
    pub queue_url: String,
    pub settings: WorkerSettings,
}

impl Deployment {
    /// A flag takes precedence over its variable.
    pub fn from_env(pool: Option<String>, concurrent: Option<u32>, ready_timeout: Option<u64>) -> Result<Self, BadSetting> {
        let queues = Queues::from_env()?;
        let pool = match pool {
            Some(pool) => pool,
            None => required(POOL, "the name of the pool that this worker serves")?,
        };
        let queue_url = queues
            .url(&Destination::Worker(pool.clone()))
            .ok_or_else(|| BadSetting::wrong(POOL, format_args!("worker-{pool} is not a valid queue name")))?;
        let mut settings =
            WorkerSettings { worker: format!("{pool}/{}", instance()?), log_answers: true, ..WorkerSettings::new(pool) };
        let concurrent = match concurrent {
            None => number(CONCURRENT, "the number of concurrent steps", PLACES)?,
            given => given,
        };
        if let Some(places) = concurrent {
            settings.max_concurrent_handlers = places as usize;
        }
        if let Some(timeout) = self::ready_timeout(ready_timeout)? {
            settings.ready_timeout = timeout;
        }
        Ok(Self { queues, queue_url, settings })
    }

    /// The timeout of the Lambda function, which Lambda does not report.
    pub fn timeout(&self) -> Result<Duration, BadSetting> {
        let seconds = number(TIMEOUT, "the function's timeout in seconds", 1..=900)?;
        let missing = BadSetting::Missing { name: TIMEOUT, what: "the function's timeout in seconds, from 1 to 900" };
        seconds.map(Duration::from_secs).ok_or(missing)
    }
}

/// How long the command may take until it is ready, if that is set.
pub fn ready_timeout(flag: Option<u64>) -> Result<Option<Duration>, BadSetting> {
    let seconds = match flag {
        None => number(READY_TIMEOUT, "the seconds until the worker must be ready", READY)?,
        given => given,
    };
    Ok(seconds.map(Duration::from_secs))
}

/// A name that leads an operator to the instance's logs. The process id does not: in a container it is always the same.
fn instance() -> Result<String, BadSetting> {
    let name = match optional("AWS_LAMBDA_LOG_STREAM_NAME")? {
        None => optional("HOSTNAME")?,
        given => given,
    };
    Ok(name.unwrap_or_else(|| std::process::id().to_string()))
}
