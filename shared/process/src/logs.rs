//! Logs. `TASKER_LOG` sets the levels. A terminal gets compact, coloured lines; any other stream gets one JSON object per line.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter},
    prelude::*,
};

use crate::settings::{self, BadSetting};

/// The default levels. Libraries report only warnings and errors.
const USUAL: &str =
    "info,lambda_runtime=warn,lambda_http=warn,refinery_core=warn,tokio_postgres=warn,deadpool=error,aws_config=warn";

/// Where a process logs: stdout, unless that carries its results.
#[derive(Debug, Clone, Copy)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Starts the logs of this process. `own` adds levels to the defaults. An error is for the caller to report: logs with the default levels
/// have started.
pub fn begin_logs(to: Stream, own: &[(&'static str, LevelFilter)]) -> Result<(), BadSetting> {
    match to {
        Stream::Stdout => begin(io::stdout, io::stdout().is_terminal(), own),
        Stream::Stderr => begin(io::stderr, io::stderr().is_terminal(), own),
    }
}

fn begin<W>(writer: W, is_terminal: bool, own: &[(&'static str, LevelFilter)]) -> Result<(), BadSetting>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let asked = settings::read("TASKER_LOG", parse);
    let usual = || parse(USUAL).expect("the default levels are valid").with_targets(own.iter().copied());
    let levels = asked.clone().ok().flatten().unwrap_or_else(usual);
    let lines = fmt::layer().with_writer(writer);
    let lines =
        if is_terminal { lines.compact().boxed() } else { lines.json().flatten_event(true).with_span_list(false).boxed() };
    tracing_subscriber::registry().with(lines.with_filter(levels)).init();
    asked.map(drop)
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
