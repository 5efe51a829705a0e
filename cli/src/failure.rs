//! How a command ends when it does not succeed. Exit codes are interface: scripts branch on them.

use std::fmt;

/// What kind of end it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Anything that has no kind of its own.
    Error,
    /// The command line, or what it names, cannot be read.
    Usage,
    /// What was asked for does not exist.
    NotFound,
    /// It is not allowed in the present state, or exists with other content.
    Conflict,
    /// It did not happen in time.
    TimedOut,
    /// The task that was waited for failed or was cancelled.
    TaskFailed,
    /// Nobody answers, or refuses all work for now: worth trying again.
    Unavailable,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Error | Self::Unavailable => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 5,
            Self::TimedOut => 6,
            Self::TaskFailed => 7,
        }
    }
}

/// Why a command did not succeed: what to tell the user, and the shell.
#[derive(Debug)]
pub struct Failure {
    /// For the shell.
    pub exit: Exit,
    /// For the user: what is wrong, where, and the remedy. Words from outside are in it as they came; [`crate::output`] makes them harmless.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Something that was given on the command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Error, format!("{error:#}"))
    }
}

impl From<tasker_process::BadSetting> for Failure {
    fn from(error: tasker_process::BadSetting) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<tasker_server::Error> for Failure {
    fn from(error: tasker_server::Error) -> Self {
        Self::new(Exit::Error, error.to_string())
    }
}

/// What a command comes to.
pub type Result<T = ()> = std::result::Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let kinds =
            [Exit::Error, Exit::Usage, Exit::NotFound, Exit::Conflict, Exit::TimedOut, Exit::TaskFailed, Exit::Unavailable];
        assert_eq!(kinds.map(Exit::code), [1, 2, 3, 5, 6, 7, 1]);
    }
}
