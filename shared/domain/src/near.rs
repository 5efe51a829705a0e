//! The name that a text probably means.

use tasker_wire::limits;

/// No name is suggested from a longer list: many suggestions from many names would be expensive.
const AMONG: usize = 1_000;

/// The name that the text probably means: at most two typing errors away.
pub fn near<'a>(text: &str, names: impl ExactSizeIterator<Item = &'a str>) -> Option<&'a str> {
    if names.len() > AMONG || text.chars().count() > limits::NAME_CHARS {
        return None;
    }
    let near = |name: &'a str| (strsim::damerau_levenshtein(text, name), name);
    let (distance, name) = names.filter(|name| name.len().abs_diff(text.len()) <= 2).map(near).min()?;
    (distance <= 2 && distance * 2 < name.len()).then_some(name)
}

/// The words that suggest a near name, to be put behind a message; empty without one.
pub fn did_you_mean<'a>(text: &str, names: impl ExactSizeIterator<Item = &'a str>) -> String {
    near(text, names).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let names = ["validate", "charge", "ship"];
        for (text, expected) in
            [("chrage", Some("charge")), ("validte", Some("validate")), ("shop", Some("ship")), ("refund", None)]
        {
            assert_eq!(near(text, names.into_iter()), expected, "{text}");
        }
        assert_eq!(did_you_mean("chrage", names.into_iter()), "; did you mean charge?");
        assert_eq!(did_you_mean("refund", names.into_iter()), "");
        let many: Vec<&str> = vec!["charge"; AMONG + 1];
        assert_eq!(near("charge", many.into_iter()), None);
    }
}
