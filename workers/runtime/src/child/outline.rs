//! The outline of a line: the line without the contents of what is nested, and with its texts cut. It holds all that is kept of a failure
//! except the context, wherever in the line these stand, in little memory, and also if the rest is not JSON.

use tasker_wire::limits;

/// Bytes kept of one text: a character takes at most twelve, as two escapes.
const TEXT: usize = 12 * (limits::ERROR_CHARS + 1);
/// The level of a failure's own fields: line, outcome, failure.
const LEVELS: u32 = 3;
/// Bytes of an outline that is of no use any more.
const MOST: usize = 1024 * 1024;

#[derive(Default)]
pub(super) struct Outline {
    text: Vec<u8>,
    /// Bytes read.
    read: usize,
    level: u32,
    in_text: bool,
    /// Bytes kept of the current text.
    kept: usize,
    /// Bytes left of the current escape. A text is never cut inside of one.
    escape: u8,
}

impl Outline {
    pub fn of(line: &[u8]) -> Vec<u8> {
        let mut outline = Self::default();
        outline.read(line);
        outline.text
    }

    pub fn read(&mut self, bytes: &[u8]) {
        self.read += bytes.len();
        for &byte in bytes {
            if self.keeps(byte) && self.text.len() < MOST {
                self.text.push(byte);
            }
        }
    }

    pub fn is_endless(&self) -> bool {
        self.read > limits::ENDLESS_LINE_BYTES
    }

    pub fn text(&self) -> &[u8] {
        &self.text
    }

    pub fn into_text(self) -> Vec<u8> {
        self.text
    }

    fn keeps(&mut self, byte: u8) -> bool {
        if self.in_text {
            return self.keeps_of_text(byte) && self.level <= LEVELS;
        }
        let outer = self.level;
        match byte {
            b'"' => (self.in_text, self.kept) = (true, 0),
            b'{' | b'[' => self.level += 1,
            b'}' | b']' => self.level = self.level.saturating_sub(1),
            _ => {}
        }
        // The brackets of what is nested stay, so that the outline is JSON.
        outer.min(self.level) <= LEVELS
    }

    fn keeps_of_text(&mut self, byte: u8) -> bool {
        let begins = self.escape == 0;
        match byte {
            b'"' if begins => {
                self.in_text = false;
                return true;
            }
            b'\\' if begins => self.escape = 1,
            b'u' if self.escape == 1 => self.escape = 4,
            _ => self.escape = self.escape.saturating_sub(1),
        }
        // Once cut, a text stays cut.
        let keeps = self.kept < TEXT || (!begins && self.kept < 2 * TEXT);
        self.kept = if keeps { self.kept + 1 } else { 2 * TEXT };
        keeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(line: &str) -> String {
        String::from_utf8_lossy(&Outline::of(line.as_bytes())).into_owned()
    }

    #[test]
    fn what_is_nested_is_emptied_and_the_rest_stays() {
        let line = r#"{"id":7,"outcome":{"failure":{"context":{"a":[1,{"b":"}]\\\""}],"n":NaN},"list":["x",[]],"message":"m {[\" \u00e9","retryable":false}}}"#;
        let expected = r#"{"id":7,"outcome":{"failure":{"context":{},"list":[],"message":"m {[\" \u00e9","retryable":false}}}"#;
        assert_eq!(outline(line), expected);
    }

    #[test]
    fn a_text_is_cut_but_not_inside_of_an_escape() {
        for unit in ["x", "\\\"", "\\u00e9", "\\\\", "é"] {
            for shift in 0..7 {
                let text = format!("{{\"{}{}\":1}}", "s".repeat(shift), unit.repeat(TEXT));
                let cut = outline(&text);
                assert!(cut.len() < TEXT + 20 && cut.ends_with("\":1}"), "{unit}");
                serde_json::from_str::<serde::de::IgnoredAny>(&cut).unwrap();
            }
        }
    }

    #[test]
    fn it_may_be_read_in_pieces_of_any_size() {
        let line = r#"{"id":7,"outcome":{"failure":{"message":"a\u00e9\"b","context":{"x":"\\"}}}}"#.as_bytes();
        for size in 1..line.len() {
            let mut pieces = Outline::default();
            line.chunks(size).for_each(|piece| pieces.read(piece));
            assert_eq!(pieces.into_text(), Outline::of(line));
        }
    }
}
