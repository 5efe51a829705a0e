//! Reads JSON from the command line, a file or stdin, and YAML files: up to a limit, and checked before anything is sent.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use nix::unistd::gethostname;
use serde_json::value::RawValue;
use tasker_domain::json;
use tasker_wire::limits;

use crate::error::{CommandError, Exit, Result};

/// An argument with a JSON document: the document itself, `@FILE`, or `-` for stdin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonSource {
    Text(String),
    File(PathBuf),
    Stdin,
}

impl From<&str> for JsonSource {
    fn from(text: &str) -> Self {
        match (text, text.strip_prefix('@')) {
            ("-", _) => Self::Stdin,
            (_, Some(path)) => Self::File(path.into()),
            _ => Self::Text(text.to_owned()),
        }
    }
}

impl JsonSource {
    /// Reads the document, which stays text so that numbers keep their digits. Errors name `option`.
    pub fn read(&self, option: &str) -> Result<Box<RawValue>> {
        let (text, place) = match self {
            Self::Text(text) => (text.clone(), option.to_owned()),
            Self::File(path) => (read_file(path, limits::RESULT_BYTES)?, path.display().to_string()),
            Self::Stdin => (read_bounded(io::stdin(), "stdin", limits::RESULT_BYTES)?, "stdin".to_owned()),
        };
        json::check(&text).map_err(|fault| CommandError::usage(format!("{place} is not valid JSON: {fault}")))?;
        RawValue::from_string(text.trim().to_owned())
            .map_err(|error| CommandError::usage(format!("{place} is not JSON: {error}")))
    }
}

/// Reads a text file of at most `limit` bytes.
fn read_file(path: &Path, limit: usize) -> Result<String> {
    let place = path.display().to_string();
    let file = File::open(path).map_err(|error| CommandError::usage(format!("cannot open {place}: {error}")))?;
    read_bounded(file, &place, limit)
}

fn read_bounded(source: impl Read, place: &str, limit: usize) -> Result<String> {
    let mut bytes = Vec::new();
    let read = source.take(limit as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| CommandError::usage(format!("cannot read {place}: {error}")))?;
    if bytes.len() > limit {
        return Err(CommandError::new(Exit::Error, format!("{place} has more than {limit} bytes, which is the limit")));
    }
    String::from_utf8(bytes).map_err(|_| CommandError::new(Exit::Error, format!("{place} is not UTF-8 text")))
}

/// The default actor for the audit log: `USER@HOST`.
pub fn default_actor() -> String {
    let user = tasker_process::settings::optional("USER").ok().flatten().unwrap_or_else(|| "cli-operator".into());
    match gethostname().ok().and_then(|name| name.into_string().ok()) {
        Some(host) if !host.is_empty() => format!("{user}@{host}"),
        _ => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String> {
        JsonSource::from(text).read("--context").map(|json| json.get().to_owned())
    }

    #[test]
    fn json_is_taken_from_the_command_line_as_it_is() {
        assert_eq!(read(r#" {"n": 123456789012345678901234567890} "#).unwrap(), r#"{"n": 123456789012345678901234567890}"#);
    }

    #[test]
    fn json_is_taken_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\": 1}\n").unwrap();
        assert_eq!(read(&format!("@{}", file.path().display())).unwrap(), r#"{"a": 1}"#);
    }

    #[test]
    fn invalid_json_is_a_usage_error_that_names_the_option_and_the_place() {
        for bad in ["{a: 1}", "", "{\"a\": 1", "{\"a\": 1, \"a\": 2}", "\"\\u0000\""] {
            let failure = read(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{bad}");
            assert!(failure.message.starts_with("--context is not valid JSON: "), "{}", failure.message);
        }
    }

    #[test]
    fn a_missing_file_and_an_endless_one_are_refused() {
        assert!(read("@/nowhere/at all").unwrap_err().message.contains("cannot open /nowhere/at all"));
        assert!(read("@/dev/zero").unwrap_err().message.contains("has more than "));
    }
}
