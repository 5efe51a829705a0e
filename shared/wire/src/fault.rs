//! Faults of an input. All of them are reported at once, each with its place.

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Fault {
    /// A JSON pointer (RFC 6901) into the input, or `line:column` if it could not be parsed.
    pub place: String,
    /// What is wrong and what is expected, in one sentence without the place.
    pub message: String,
}

impl Fault {
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All faults of one input. An error has at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// Appends one reference token to a JSON pointer, escaped as RFC 6901 requires.
///
/// Control characters become escapes, because places are printed on terminals and in log lines.
pub fn pointer(parent: &str, token: impl fmt::Display) -> String {
    let mut pointer = format!("{parent}/");
    for c in token.to_string().chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c if c.is_control() => pointer.extend(c.escape_unicode()),
            c => pointer.push(c),
        }
    }
    pointer
}
