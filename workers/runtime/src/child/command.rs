//! A command line, split into words like a shell does and run without a shell: the supervised process is the worker itself, not a shell
//! that may outlive it.

use std::{fmt, str::FromStr};

/// A command line: `NAME=value` words for its environment, a program, its arguments.
///
/// A string is split at spaces. Quotes and backslashes work as in a shell, but nothing is expanded. A command that needs a shell is
/// `sh -c '…'`, ideally with `exec` before the last command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub(super) environment: Vec<(String, String)>,
    pub(super) program: String,
    pub(super) arguments: Vec<String>,
}

/// The string is not a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    #[error("the command `{0}` has a quote that is not closed")]
    OpenQuote(String),
    #[error("the command is empty; give a program and its arguments")]
    Empty,
}

impl Command {
    /// Reads a command line that is already split into words.
    pub fn from_words(words: impl IntoIterator<Item = String>) -> Result<Self, BadCommand> {
        let mut words = words.into_iter().peekable();
        let mut environment = Vec::new();
        while let Some((name, value)) = words.peek().and_then(|word| assignment(word)) {
            environment.push((name.to_owned(), value.to_owned()));
            words.next();
        }
        let program = words.next().filter(|word| !word.is_empty()).ok_or(BadCommand::Empty)?;
        Ok(Self { environment, program, arguments: words.collect() })
    }
}

impl FromStr for Command {
    type Err = BadCommand;

    fn from_str(line: &str) -> Result<Self, BadCommand> {
        let words = shell_words::split(line).map_err(|_| BadCommand::OpenQuote(line.to_owned()))?;
        Self::from_words(words)
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = std::iter::once(&self.program).chain(&self.arguments);
        // Without the environment, which may contain secrets.
        f.write_str(&shell_words::join(words))
    }
}

fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_a_shell_would() {
        let command: Command = r#"PYTHONPATH=a:b X= python3 -m "my worker" it\'s '$HOME'"#.parse().unwrap();
        assert_eq!(command.environment, [("PYTHONPATH".into(), "a:b".into()), ("X".into(), String::new())]);
        assert_eq!(command.program, "python3");
        assert_eq!(command.arguments, ["-m", "my worker", "it's", "$HOME"]);
        assert_eq!(command.to_string(), r#"python3 -m 'my worker' 'it'\''s' '$HOME'"#);
    }

    #[test]
    fn a_line_without_a_program_or_with_an_open_quote_is_refused() {
        assert_eq!("".parse::<Command>(), Err(BadCommand::Empty));
        assert_eq!("A=1".parse::<Command>(), Err(BadCommand::Empty));
        assert_eq!("''".parse::<Command>(), Err(BadCommand::Empty));
        assert!(matches!("a 'b".parse::<Command>(), Err(BadCommand::OpenQuote(_))));
    }
}
