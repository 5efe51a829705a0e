//! Logs: a stream of events on stdout, JSON for machines and colour for a terminal.

use std::io::{IsTerminal, stdout};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// Says what is logged: a level, or levels by target, such as `info,worker=debug`.
const VARIABLE: &str = "TASKER_LOG";
/// What libraries tell of their insides is for whoever asks.
const USUAL: &str = "info,refinery_core=warn,tokio_postgres=warn,deadpool=error";

/// Logs from here on.
pub fn begin() {
    let levels = std::env::var(VARIABLE).unwrap_or_else(|_| USUAL.to_owned());
    let filter = EnvFilter::builder().parse_lossy(levels);
    let registry = tracing_subscriber::registry().with(filter);
    if stdout().is_terminal() {
        registry.with(fmt::layer().compact()).init();
    } else {
        registry.with(fmt::layer().json().flatten_event(true)).init();
    }
}
