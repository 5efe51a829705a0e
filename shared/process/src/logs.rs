//! Logs. `TASKER_LOG` sets the levels. A terminal gets compact lines, coloured if it takes colours; any other stream gets one JSON object
//! per line. A log line never waits for its reader.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic, thread,
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, fmt, prelude::*};

use crate::{
    errors::panic_text,
    lines::{LAST_WORDS, Stream, flush},
    settings::{self, BadSetting},
};

/// The default levels. Libraries report only warnings and errors.
const USUAL: &str =
    "info,lambda_runtime=warn,lambda_http=warn,refinery_core=warn,tokio_postgres=warn,deadpool=error,aws_config=warn";
/// Logged at every level: dropped lines and panics.
const ALWAYS: (&str, LevelFilter) = ("tasker_process", LevelFilter::WARN);

/// Starts the logs of this process, on stdout unless that carries its results. `own` adds levels to the defaults. An error is for the
/// caller to report: logs with the default levels have started.
pub fn begin_logs(to: Stream, own: &[(&'static str, LevelFilter)]) -> Result<(), BadSetting> {
    let asked = settings::read("TASKER_LOG", parse);
    let usual = || parse(USUAL).expect("the default levels are valid").with_targets(own.iter().copied());
    let levels = asked.clone().ok().flatten().unwrap_or_else(usual).with_targets([ALWAYS]);
    // The layer would report its own errors on stderr, and wait for it.
    let lines = fmt::layer().with_writer(move || &**to.lines()).with_ansi(to.takes_styles()).log_internal_errors(false);
    let lines =
        if to.is_terminal() { lines.compact().boxed() } else { lines.json().flatten_event(true).with_span_list(false).boxed() };
    tracing_subscriber::registry().with(lines.with_filter(levels)).init();
    panic::set_hook(Box::new(log_panic));
    asked.map(drop)
}

/// In place of the standard library's, which waits for stderr.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let (thread, place) = (thread::current(), panic.location().map(ToString::to_string));
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread = thread.name(), place, backtrace, "a panic: {}", panic_text(panic.payload()));
    if thread.name() == Some("main") {
        flush(LAST_WORDS);
    }
}

/// Reads `LEVEL` and `TARGET=LEVEL`, separated by commas.
fn parse(text: &str) -> Result<Targets, &'static str> {
    const WRONG: &str = "expected levels, as debug or info,tasker_engine=debug";
    let levels: String = text.split_whitespace().collect();
    // `Targets` would read another bare word as the only target to log.
    if levels.split(',').any(|one| one.is_empty() || !one.contains('=') && one.parse::<LevelFilter>().is_err()) {
        return Err(WRONG);
    }
    levels.parse().map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_a_level_and_levels_of_targets() {
        let levels = parse("info, worker=warn,tasker_engine=off").unwrap();
        assert!(levels.would_enable("any", &Level::INFO) && !levels.would_enable("any", &Level::DEBUG));
        assert!(levels.would_enable("worker::child", &Level::WARN) && !levels.would_enable("worker", &Level::INFO));
        assert!(!levels.would_enable("tasker_engine", &Level::ERROR));
        assert!(parse(USUAL).unwrap().would_enable("tasker_engine", &Level::INFO));
    }

    #[test]
    fn an_unknown_level_is_an_error_and_not_a_target() {
        for text in ["inof", "info,worker", "worker=loud", "info,", ",", "a=b=c"] {
            assert_eq!(parse(text).unwrap_err(), "expected levels, as debug or info,tasker_engine=debug", "{text}");
        }
    }
}
