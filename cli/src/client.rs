//! The API over HTTP: sends one request and returns its response or an error. This module knows no tasks and no templates.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header::RETRY_AFTER};
use serde::{Serialize, de::DeserializeOwned};
use tasker_wire::rest::{ErrorBody, ErrorDetails, ErrorWords};

use crate::{
    action::effects,
    error::{CommandError, Exit, Result},
    output::{counted, line},
};

/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// Retries of a `GET` while the server answers 503.
const RETRIES: u32 = 4;
/// The longest pause before a retry.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

pub struct Client {
    http: reqwest::Client,
    base: Url,
}

#[derive(Debug)]
pub struct ApiResponse {
    /// The body: a JSON document, unchanged.
    pub text: String,
    from: String,
}

impl ApiResponse {
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.text).map_err(|error| {
            let start = line(&self.text.chars().take(80).collect::<String>());
            let message = format!("{} sent a response that this command cannot read ({error}): {start}", self.from);
            CommandError::new(Exit::Error, message)
        })
    }
}

pub fn parse_url(text: &str) -> std::result::Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("expected http://HOST:PORT or https://HOST, with the path of the API's stage if it has one".into()),
    }
}

impl Client {
    pub fn new(base: Url) -> Result<Self> {
        // For HTTPS; fails when there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder =
            reqwest::Client::builder().connect_timeout(CONNECT).user_agent(concat!("tasker-ctl/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            // A proxy cannot reach servers of this machine.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| CommandError::new(Exit::Error, format!("cannot set up HTTP: {error}")))?;
        Ok(Self { http, base })
    }

    /// Sends a `GET`, and retries it a few times while the server answers 503.
    pub async fn get(&self, path: &[impl AsRef<str>], query: &impl Serialize) -> Result<ApiResponse> {
        self.get_within(path, query, PATIENCE).await
    }

    /// The same with another timeout, for a request that waits at the server.
    pub async fn get_within(&self, path: &[impl AsRef<str>], query: &impl Serialize, patience: Duration) -> Result<ApiResponse> {
        let request = || self.request(Method::GET, path).query(query).timeout(patience);
        let mut tried = 0;
        loop {
            let response = self.exchange(request()).await?;
            if response.status() != StatusCode::SERVICE_UNAVAILABLE || tried == RETRIES {
                return self.answer(response).await;
            }
            let pause = retry_after(&response).unwrap_or(Duration::from_millis(500) * 2u32.pow(tried));
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            tried += 1;
        }
    }

    /// Sends a change once: if the response is lost, the change may have happened.
    pub async fn send(&self, method: Method, path: &[impl AsRef<str>], body: &impl Serialize) -> Result<ApiResponse> {
        let response = self.exchange(self.request(method, path).json(body).timeout(PATIENCE)).await?;
        self.answer(response).await
    }

    pub async fn post_yaml(&self, path: &[impl AsRef<str>], yaml: String) -> Result<ApiResponse> {
        let request = self.request(Method::POST, path).header("content-type", "application/yaml").body(yaml).timeout(PATIENCE);
        let response = self.exchange(request).await?;
        self.answer(response).await
    }

    fn request(&self, method: Method, path: &[impl AsRef<str>]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("http URLs have a path").pop_if_empty().extend(path.iter().map(AsRef::as_ref));
        self.http.request(method, url)
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| not_answered(&error, &self.address()))
    }

    async fn answer(&self, response: Response) -> Result<ApiResponse> {
        let from = self.address();
        let status = response.status();
        let retry_after = retry_after(&response);
        let text = response.text().await.map_err(|error| not_answered(&error, &from))?;
        if status.is_success() { Ok(ApiResponse { text, from }) } else { Err(refusal(status, retry_after, &text, &from)) }
    }

    /// The server's address without a password.
    fn address(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|a| a.is_loopback())
}

fn not_answered(error: &reqwest::Error, from: &str) -> CommandError {
    // Only the innermost message: the outer ones contain the address, which may contain a password.
    let cause = tasker_process::root_cause(error);
    let why = if cause.is::<reqwest::Error>() { "the connection broke".into() } else { cause.to_string() };
    if error.is_connect() {
        let remedy = "Start a server with `tasker-ctl dev`, or give its address with --url or TASKER_URL.";
        return CommandError::new(Exit::Unavailable, format!("no server answers at {from} ({why})\n{remedy}"));
    }
    if error.is_timeout() {
        return CommandError::new(Exit::TimedOut, format!("{from} did not respond in time; the request may have taken effect"));
    }
    CommandError::new(Exit::Unavailable, format!("the response of {from} was lost ({why}); the request may have taken effect"))
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Turns an error response into the command's error, with all faults and their places.
fn refusal(status: StatusCode, retry_after: Option<Duration>, body: &str, from: &str) -> CommandError {
    let exit = match status.as_u16() {
        404 => Exit::NotFound,
        408 | 504 => Exit::TimedOut,
        409 => Exit::Conflict,
        503 => Exit::Unavailable,
        _ => Exit::Error,
    };
    let Ok(ErrorBody { error }) = serde_json::from_str(body) else {
        let start: String = body.chars().take(200).collect();
        return CommandError::new(exit, format!("{from} answered {status}: {}", line(start.trim())));
    };
    let mut lines = details(&error);
    if let Some(wait) = retry_after.filter(|_| exit == Exit::Unavailable) {
        lines.push(format!("Try again in {} s.", wait.as_secs()));
    }
    CommandError::new(exit, lines.join("\n"))
}

/// The message, followed by the faults, the differences, the task, the registered versions, or the effects.
fn details(ErrorWords { message, details, .. }: &ErrorWords) -> Vec<String> {
    let mut lines = vec![line(message)];
    match details {
        Some(ErrorDetails::Faults { faults }) => match &faults[..] {
            [] => {}
            [fault] => return vec![line(&fault.to_string())],
            // The message repeats only the first faults.
            faults => {
                lines = vec![format!("{} faults:", faults.len())];
                lines.extend(faults.iter().map(|fault| format!("  {}", line(&fault.to_string()))));
            }
        },
        Some(ErrorDetails::Differs { diff, .. }) => lines.extend(diff.iter().map(|part| format!("  {}", line(part)))),
        Some(ErrorDetails::Versions { registered_versions }) => {
            let versions = registered_versions.join(", ");
            let versions = if versions.is_empty() { "none; see tasker-ctl template list" } else { &versions };
            lines.push(format!("  registered versions: {}", line(versions)));
        }
        Some(ErrorDetails::Changed(now)) => {
            lines.push(format!("It would change {} now.", counted(now.steps.len(), "step")));
            lines.push(effects(&now.steps));
            lines.push("Look at it again with --dry-run.".to_owned());
        }
        Some(ErrorDetails::ChangedPause(now)) => {
            lines.push(format!("It is about {} now. Look at it again with --dry-run.", counted(now.held_steps, "held step")));
        }
        Some(ErrorDetails::ChangedRecovery(now)) => {
            lines.push(format!("It is about {} now. Look at it again with --dry-run.", counted(now.items.len(), "entry")));
        }
        Some(ErrorDetails::Task { task_uuid, status }) if !message.contains(&task_uuid.to_string()) => {
            lines.push(format!("  task {task_uuid} is {}", line(status)));
        }
        _ => {}
    }
    lines
}
