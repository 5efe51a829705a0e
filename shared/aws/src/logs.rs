//! Logs of a function: one JSON object a line on stdout, where the platform collects it.

use std::str::FromStr;

use tracing_subscriber::{filter::Targets, fmt, prelude::*};

/// Says what is logged: a level, or levels by target, such as `info,tasker_engine=debug`.
const VARIABLE: &str = "TASKER_LOG";
/// What libraries tell of their insides is for whoever asks.
const USUAL: &str = "info,tasker_engine=debug,lambda_runtime=warn,lambda_http=warn,refinery_core=warn,tokio_postgres=warn,deadpool=error,aws_config=warn";

/// Logs from here on.
pub fn begin() {
    let usual = || Targets::from_str(USUAL).expect("the usual levels are levels");
    let asked = std::env::var(VARIABLE).ok().map(|levels| Targets::from_str(&levels));
    let (levels, wrong) = match asked {
        None => (usual(), None),
        Some(Ok(levels)) => (levels, None),
        Some(Err(error)) => (usual(), Some(error)),
    };
    let lines = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
    tracing_subscriber::registry().with(levels).with(lines).init();
    if let Some(error) = wrong {
        tracing::error!(%error, "{VARIABLE} is wrong, so the usual is logged; expected levels such as info,tasker_engine=debug");
    }
}
