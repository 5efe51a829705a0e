//! Texts of errors and panics.

use std::{any::Any, error::Error};

/// The message of a panic that was caught.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}

/// The innermost error, which describes the cause. The outer ones describe the operation.
pub fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_panic_says_its_message_if_it_has_one() {
        let panics: [fn(); 3] = [|| panic!("fixed"), || panic!("made {}", 1), || std::panic::panic_any(7)];
        let texts = panics.map(|panics| panic_text(&*catch_unwind(panics).unwrap_err()).to_owned());
        assert_eq!(texts, ["fixed", "made 1", "without a message"]);
    }

    #[test]
    fn the_root_cause_is_the_innermost_error() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::fmt::Error);
        assert_eq!(root_cause(&Outer(std::fmt::Error)).to_string(), std::fmt::Error.to_string());
        assert_eq!(root_cause(&std::fmt::Error).to_string(), std::fmt::Error.to_string());
    }
}
