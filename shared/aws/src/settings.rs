//! Settings come as environment variables. What is missing or wrong is told with its name, before anything else is done.

use std::{fmt::Display, str::FromStr};

/// A setting that this process cannot run with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// It is missing or empty.
    #[error("{name} is not set: give {what}")]
    Missing {
        /// Of the environment variable.
        name: &'static str,
        /// That it should hold.
        what: &'static str,
    },
    /// It holds something else.
    #[error("{name} is wrong: {why}")]
    Wrong {
        /// Of the environment variable.
        name: &'static str,
        /// In a sentence, without a secret.
        why: String,
    },
}

impl BadSetting {
    /// A setting that is there and of no use.
    pub fn wrong(name: &'static str, why: impl Display) -> Self {
        Self::Wrong { name, why: why.to_string() }
    }
}

/// A setting that may be left out; an empty one is.
pub fn optional(name: &'static str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A setting that must be there; `what` says what it should hold.
pub fn required(name: &'static str, what: &'static str) -> Result<String, BadSetting> {
    optional(name).ok_or(BadSetting::Missing { name, what })
}

/// A setting of a type that reads itself, such as a number; `what` says what it should hold.
pub fn parsed<T: FromStr>(name: &'static str, what: &'static str) -> Result<T, BadSetting> {
    let text = required(name, what)?;
    text.parse().map_err(|_| BadSetting::wrong(name, format_args!("expected {what}, not `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_is_told_by_its_name_and_a_wrong_one_with_what_was_expected() {
        let missing = required("TASKER_NOT_THERE", "the name of a thing").unwrap_err().to_string();
        assert_eq!(missing, "TASKER_NOT_THERE is not set: give the name of a thing");
        let wrong = parsed::<u32>("PATH", "a number").unwrap_err().to_string();
        assert!(wrong.starts_with("PATH is wrong: expected a number, not `"), "{wrong}");
    }
}
