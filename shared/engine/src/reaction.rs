//! What to do about an error: the one question that every caller asks, answered once.

use tasker_store::StoreError;

use crate::{OperatorError, RegisterError, SubmitError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The same call fails again: tell its caller why.
    CallersFault,
    /// The same call may succeed later.
    Later,
    /// Log it, and refuse without a reason that a caller could act on.
    OurDefect,
}

/// An error that says what to do about it.
pub trait React {
    fn reaction(&self) -> Reaction;
}

impl React for StoreError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::Unavailable(_) => Reaction::Later,
            Self::Data(_) => Reaction::CallersFault,
            Self::Setting(_) | Self::Bug(_) => Reaction::OurDefect,
        }
    }
}

impl React for SubmitError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::UnknownTemplate { .. } | Self::Invalid(_) | Self::Duplicate { .. } => Reaction::CallersFault,
            Self::Full => Reaction::Later,
            Self::Store(error) => error.reaction(),
        }
    }
}

impl React for OperatorError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::NotFound | Self::Conflict { .. } | Self::Invalid(_) => Reaction::CallersFault,
            Self::Store(error) => error.reaction(),
        }
    }
}

impl React for RegisterError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::Invalid(_) | Self::Differs { .. } => Reaction::CallersFault,
            Self::Store(error) => error.reaction(),
        }
    }
}
