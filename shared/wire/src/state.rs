//! States of tasks and steps. The SQL functions in `migrations/`, such as `complete_v1`, change them. `tests/model` checks those functions
//! against its own state machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An enum of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        // `rename_all`, because utoipa does not see a literal that comes through a macro.
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// In the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in the database and in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What a word means.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }
    };
}

pub(crate) use words;

words! {
    TaskState {
        /// A step can still make progress, or is held by a pause.
        Running = "running",
        /// Every step is done.
        Complete = "complete",
        /// No step can make progress any more, and one failed.
        Error = "error",
        /// An operator ended it.
        Cancelled = "cancelled",
        /// It failed, and an operator ended it so.
        ResolvedManually = "resolved_manually",
    }
}

words! {
    StepState {
        /// Waits for its parents, or is held by a pause.
        Pending = "pending",
        /// Dispatched: a message with its current lease is in the queue or at a worker.
        Enqueued = "enqueued",
        /// A worker reported the start.
        InProgress = "in_progress",
        /// Failed; another attempt follows.
        WaitingForRetry = "waiting_for_retry",
        /// Done, with a result.
        Complete = "complete",
        /// Failed; no attempt follows.
        Error = "error",
        /// An operator ended it.
        Cancelled = "cancelled",
        /// An operator resolved it.
        ResolvedManually = "resolved_manually",
    }
}

impl TaskState {
    /// Only an operator can change a finished one.
    pub fn is_finished(self) -> bool {
        self != Self::Running
    }
}

impl StepState {
    /// Only an operator can change a finished one.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Error | Self::Cancelled | Self::ResolvedManually)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for &state in StepState::ALL {
            assert_eq!(StepState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        for &state in TaskState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(TaskState::parse("paused"), None);
    }
}
