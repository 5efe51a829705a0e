//! What a caller should do about an error.

use tasker_store::StoreError;

use crate::{OperatorError, RegisterError, SubmitError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// The same call would fail again. Tell its caller why.
    CallersFault,
    /// The same call may succeed later.
    Later,
    /// A defect. Log it; its caller can do nothing about it.
    OurDefect,
}

pub trait React {
    fn reaction(&self) -> Reaction;
}

impl React for StoreError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::Unavailable(_) | Self::Unanswered(_) | Self::TimedOut(_) => Reaction::Later,
            Self::Data(_) => Reaction::CallersFault,
            Self::Setting(_) | Self::Bug(_) => Reaction::OurDefect,
        }
    }
}

impl React for SubmitError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::UnknownTemplate { .. } | Self::Invalid(_) | Self::Duplicate { .. } => Reaction::CallersFault,
            Self::Full | Self::Unconfirmed { .. } => Reaction::Later,
            Self::Store(error) => error.reaction(),
        }
    }
}

impl React for OperatorError {
    fn reaction(&self) -> Reaction {
        match self {
            Self::NotFound | Self::Conflict { .. } | Self::Changed(_) | Self::Invalid(_) => Reaction::CallersFault,
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
