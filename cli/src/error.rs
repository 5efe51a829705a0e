//! Errors of commands. Exit codes are interface: scripts branch on them.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Every other failure.
    Error,
    /// The command line, or a file that it names, is invalid.
    Usage,
    NotFound,
    /// The state does not allow the action, or the object exists with other content.
    Conflict,
    TimedOut,
    /// The awaited task failed or was cancelled.
    TaskFailed,
    /// The server does not answer or is overloaded.
    Unavailable,
}

impl Exit {
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

#[derive(Debug)]
pub struct CommandError {
    pub exit: Exit,
    /// What is wrong, where, and the remedy. It may contain unescaped text from outside; [`crate::output`] escapes it.
    pub message: String,
}

impl CommandError {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Error, format!("{error:#}"))
    }
}

impl From<tasker_process::BadSetting> for CommandError {
    fn from(error: tasker_process::BadSetting) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<tasker_server::Error> for CommandError {
    fn from(error: tasker_server::Error) -> Self {
        Self::new(Exit::Error, error.to_string())
    }
}

pub type Result<T = ()> = std::result::Result<T, CommandError>;

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
