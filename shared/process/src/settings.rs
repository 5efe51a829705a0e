//! Settings from environment variables, by one rule: an empty variable counts as unset, and a wrong one is an error that names the
//! variable and the expected value. The error does not repeat a value that may be a secret.

use std::{env, ffi::OsString, fmt::Display, ops::RangeInclusive, path::PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    #[error("{name} is not set: give {what}")]
    Missing { name: &'static str, what: &'static str },
    /// `why` must not contain a secret.
    #[error("{name} is wrong: {why}")]
    Wrong { name: &'static str, why: String },
}

impl BadSetting {
    pub fn wrong(name: &'static str, why: impl Display) -> Self {
        Self::Wrong { name, why: why.to_string() }
    }
}

/// An optional setting.
pub fn optional(name: &'static str) -> Result<Option<String>, BadSetting> {
    not_empty(env::var_os(name)).map(|value| text(name, value)).transpose()
}

/// A required setting. `what` describes the expected value.
pub fn required(name: &'static str, what: &'static str) -> Result<String, BadSetting> {
    optional(name)?.ok_or(BadSetting::Missing { name, what })
}

/// An optional setting, read by `parse`, whose error must not contain a secret.
pub fn read<T, E: Display>(name: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, BadSetting> {
    optional(name)?.map(|text| parse(&text).map_err(|why| BadSetting::wrong(name, why))).transpose()
}

/// An optional number. `what` describes it.
pub fn number<T: TryFrom<i64>>(name: &'static str, what: &str, allowed: RangeInclusive<i64>) -> Result<Option<T>, BadSetting> {
    read(name, |text| parse_number(text, what, allowed))
}

/// An optional file or folder.
pub fn path(name: &str) -> Option<PathBuf> {
    not_empty(env::var_os(name)).map(PathBuf::from)
}

/// Checks the name of an environment, which selects the overlays of templates.
pub fn environment(name: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    Err("an environment has 1 to 64 of the characters A-Z a-z 0-9 _ -")
}

fn not_empty(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

fn text(name: &'static str, value: OsString) -> Result<String, BadSetting> {
    value.into_string().map_err(|_| BadSetting::wrong(name, "expected text in UTF-8"))
}

fn parse_number<T: TryFrom<i64>>(text: &str, what: &str, allowed: RangeInclusive<i64>) -> Result<T, String> {
    let expected = format!("expected {what}, from {} to {}", allowed.start(), allowed.end());
    // The error repeats only a number: other text may be a secret in the wrong variable.
    let Ok(number) = text.parse::<i64>() else { return Err(expected) };
    let fits = Some(number).filter(|n| allowed.contains(n)).and_then(|n| T::try_from(n).ok());
    fits.ok_or_else(|| format!("{expected}, not {number}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn an_empty_variable_is_an_unset_one() {
        assert_eq!(not_empty(Some("".into())), not_empty(None));
        assert_eq!(not_empty(Some("0".into())), Some("0".into()));
    }

    #[test]
    fn a_missing_setting_is_named_with_what_it_should_hold() {
        let missing = required("TASKER_NOT_THERE", "the name of a thing").unwrap_err().to_string();
        assert_eq!(missing, "TASKER_NOT_THERE is not set: give the name of a thing");
        assert_eq!(number::<u32>("TASKER_NOT_THERE", "a number", 1..=2), Ok(None));
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_was_expected() {
        let wrong = number::<u32>("PATH", "the number of places", 1..=1000).unwrap_err().to_string();
        assert_eq!(wrong, "PATH is wrong: expected the number of places, from 1 to 1000");
        for (text, found) in [("0", "0"), ("1001", "1001"), ("-1", "-1"), ("99999999999", "99999999999")] {
            assert_eq!(parse_number::<u32>(text, "n", 1..=1000).unwrap_err(), format!("expected n, from 1 to 1000, not {found}"));
        }
        assert_eq!(parse_number("1000", "n", 1..=1000), Ok(1000_u32));
        assert_eq!(text("A", OsString::from_vec(vec![0xff])).unwrap_err().to_string(), "A is wrong: expected text in UTF-8");
    }

    #[test]
    fn text_where_a_number_belongs_may_be_a_secret_and_is_not_repeated() {
        for text in ["hunter2", "1 hunter2", "1e9", "99999999999999999999"] {
            assert_eq!(parse_number::<u32>(text, "n", 1..=2).unwrap_err(), "expected n, from 1 to 2");
        }
    }

    #[test]
    fn an_environment_has_a_plain_and_short_name() {
        assert_eq!(environment("eu-1_Test"), Ok("eu-1_Test".into()));
        assert!(environment(&"e".repeat(64)).is_ok());
        for bad in ["", "a b", "a.b", "ä", &"e".repeat(65)] {
            assert!(environment(bad).is_err(), "{bad}");
        }
    }
}
