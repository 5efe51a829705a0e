//! Logs of a function: one JSON object a line on stdout, where the platform collects it.

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Says what is logged: a level, or levels by target, such as `info,tasker_engine=debug`.
const VARIABLE: &str = "TASKER_LOG";
/// What libraries tell of their insides is for whoever asks.
const USUAL: &str = "info,tasker_engine=debug,lambda_runtime=warn,lambda_http=warn,refinery_core=warn,tokio_postgres=warn,deadpool=error,aws_config=warn";

/// Logs from here on.
pub fn begin() {
    let levels = std::env::var(VARIABLE).unwrap_or_else(|_| USUAL.to_owned());
    let filter = EnvFilter::builder().parse_lossy(levels);
    let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
    tracing_subscriber::registry().with(filter).with(lines).init();
}
