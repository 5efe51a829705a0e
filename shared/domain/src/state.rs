//! States of tasks and steps, and the moves between them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

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

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepEvent {
    /// Its last parent was done, or its retry is due: handed over, under a new lease.
    HandOver,
    /// A worker reported a start, a heartbeat, or that a callback will come.
    Report,
    /// A result was accepted.
    Succeed,
    /// It failed and has tries left.
    FailForNow,
    /// It failed and has none.
    FailForGood,
    /// Its task was cancelled.
    Cancel,
    /// An operator gives it a new budget.
    Retry,
    /// An operator settles it.
    Resolve,
}

impl StepState {
    /// A worker holds a lease on it that it may still answer.
    pub fn is_answerable(self) -> bool {
        matches!(self, Self::Enqueued | Self::InProgress)
    }

    /// Somebody must look at it again by itself (`wake_at` is set).
    pub fn is_live(self) -> bool {
        matches!(self, Self::Enqueued | Self::InProgress | Self::WaitingForRetry)
    }

    /// Nothing but an operator moves it.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Error | Self::Cancelled | Self::ResolvedManually)
    }

    /// The state after `event`, or `None` where the event is not allowed and changes nothing.
    pub fn after(self, event: StepEvent) -> Option<Self> {
        use StepEvent::{Cancel, FailForGood, FailForNow, HandOver, Report, Resolve, Retry, Succeed};
        Some(match (self, event) {
            (Self::Pending | Self::Enqueued | Self::InProgress | Self::WaitingForRetry, HandOver) => Self::Enqueued,
            (Self::Enqueued | Self::InProgress, Report) => Self::InProgress,
            (Self::Enqueued | Self::InProgress, Succeed) => Self::Complete,
            (Self::Enqueued | Self::InProgress, FailForNow) => Self::WaitingForRetry,
            (Self::Enqueued | Self::InProgress, FailForGood) => Self::Error,
            (Self::Pending | Self::Enqueued | Self::InProgress | Self::WaitingForRetry, Cancel) => Self::Cancelled,
            (Self::Error | Self::WaitingForRetry | Self::Cancelled, Retry) => Self::Enqueued,
            (Self::Pending | Self::Enqueued | Self::InProgress | Self::WaitingForRetry | Self::Error, Resolve) => {
                Self::ResolvedManually
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_step_is_moved_by_operators_only() {
        use StepEvent::*;
        for &state in StepState::ALL.iter().filter(|s| s.is_finished()) {
            for event in [HandOver, Report, Succeed, FailForNow, FailForGood, Cancel] {
                assert_eq!(state.after(event), None, "{state} {event:?}");
            }
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for &state in StepState::ALL {
            assert_eq!(StepState::parse(state.as_str()), Some(state));
        }
        assert_eq!(TaskState::parse("paused"), None);
    }
}
