//! Settings from environment variables, by one rule: a variable that is empty, or only white space, counts as unset, and a wrong one is an
//! error that names the variable and the expected value. The error does not repeat a value that may be a secret.

use std::{
    convert::Infallible,
    env,
    ffi::{OsStr, OsString},
    fmt::Display,
    io,
    ops::RangeInclusive,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
};

use crate::{Stream, say};

/// Variables that libraries read by rules of their own, beside those of AWS.
const OF_LIBRARIES: [&str; 6] = ["HOME", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TERM", "TMPDIR"];

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
    given(env::var_os(name)).map(|value| text(name, value)).transpose()
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
    given(env::var_os(name)).map(PathBuf::from)
}

/// Makes the rule hold for libraries too: if a variable that one of them reads is empty, runs this program anew without it, as the same
/// process. A `main` calls this before anything else.
pub fn forget_empty() {
    let is_of_library = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("AWS_") || OF_LIBRARIES.contains(&name));
    let empty: Vec<OsString> = env::vars_os()
        .filter(|(name, value)| is_of_library(name) && given(Some(value.clone())).is_none())
        .map(|(name, _)| name)
        .collect();
    if empty.is_empty() {
        return;
    }
    let Err(error) = run_without(&empty);
    say(
        Stream::Stderr,
        &format!("warning: {empty:?} are empty and stay so for libraries, because this program cannot start again: {error}"),
    );
}

fn run_without(variables: &[OsString]) -> io::Result<Infallible> {
    let mut words = env::args_os();
    let mut again = Command::new(env::current_exe()?);
    again.arg0(words.next().unwrap_or_default()).args(words);
    variables.iter().for_each(|name| {
        again.env_remove(name);
    });
    Err(again.exec())
}

/// Checks the name of an environment, which selects the overlays of templates.
pub fn environment(name: &str) -> Result<String, &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name.to_owned());
    }
    Err("an environment has 1 to 64 of the characters A-Z a-z 0-9 _ -")
}

/// White space is what `NAME= ` in a file of variables leaves. No setting has such a value.
fn given(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| value.to_str().is_none_or(|text| !text.trim().is_empty()))
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
        for empty in ["", " ", "\t\r\n"] {
            assert_eq!(given(Some(empty.into())), None, "{empty:?}");
        }
        for value in ["0".into(), " 0 ".into(), OsString::from_vec(vec![0xff])] {
            assert_eq!(given(Some(value.clone())), Some(value));
        }
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
