//! States of tasks and steps. What moves a step is `complete_v1` and the other functions of `migrations/`; `tests/model` holds them
//! against a machine of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        // Not renamed one by one: utoipa does not see a literal that comes through a macro.
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All values, in the order of a life.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a stored or requested word.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }
    };
}

words! {
    /// Where a task stands.
    TaskState {
        /// Some step can still move by itself, or is held.
        Running = "running",
        /// Every step is done.
        Complete = "complete",
        /// Nothing can move any more and a step failed.
        Error = "error",
        /// An operator ended it.
        Cancelled = "cancelled",
        /// An operator settled it after it failed.
        ResolvedManually = "resolved_manually",
    }
}

words! {
    /// Where a step stands.
    StepState {
        /// Its parents are not done, or it is held by a pause.
        Pending = "pending",
        /// Handed over: a message for its current lease is on the way or being worked on.
        Enqueued = "enqueued",
        /// A worker reported that it started.
        InProgress = "in_progress",
        /// It failed and will be tried again.
        WaitingForRetry = "waiting_for_retry",
        /// Done, with a result.
        Complete = "complete",
        /// Failed for good.
        Error = "error",
        /// An operator ended it.
        Cancelled = "cancelled",
        /// An operator settled it.
        ResolvedManually = "resolved_manually",
    }
}

impl TaskState {
    /// Nothing but an operator moves it.
    pub fn is_finished(self) -> bool {
        self != Self::Running
    }
}

impl StepState {
    /// Nothing but an operator moves it.
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
