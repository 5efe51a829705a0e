//! Output: tables for people, JSON for programs. Text from outside is escaped, because control characters could move the cursor of a
//! terminal, hide text or forge a line.

use std::{
    fmt::Display,
    io::{self, Write},
};

use anyhow::Context;
use clap::ValueEnum;
use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tasker_process::{LAST_WORDS, Stream, flush, say};

use crate::{
    client::ApiResponse,
    error::{CommandError, Result},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

/// Prints text for people. Line breaks stay; other control characters are escaped.
pub fn print(text: &str) -> Result {
    write_out(&harmless(text))
}

/// Prints a JSON document, indented and otherwise unchanged: numbers keep their digits and keys their order.
pub fn print_json(json: &str) -> Result {
    write_out(&indent(json))
}

/// Prints a document: for people by `view`, for programs as it is.
pub fn print_document(document: &impl Serialize, format: Format, view: impl FnOnce() -> String) -> Result {
    match format {
        Format::Json => print_json(&serde_json::to_string(document).expect("documents of this program serialize")),
        Format::Table => print(&view()),
    }
}

/// The same for a response of the API.
pub fn print_response<T: DeserializeOwned>(response: &ApiResponse, format: Format, view: impl FnOnce(&T) -> String) -> Result {
    match format {
        Format::Json => print_json(&response.text),
        Format::Table => print(&view(&response.read()?)),
    }
}

/// Prints an error to stderr. If nothing reads that, only the exit code tells.
pub fn report(failure: &CommandError) {
    say(Stream::Stderr, &format!("error: {}", harmless(&failure.message)));
    flush(LAST_WORDS);
}

/// Prints to stderr what a command has started, before it waits: if it is interrupted, this is all that its caller knows. For programs it
/// is one line of JSON; stdout stays the one document at the end.
pub fn announce(document: &Value, format: Format, view: impl FnOnce() -> String) {
    let text = if format == Format::Json { line(&document.to_string()) } else { harmless(&view()) };
    say(Stream::Stderr, &text);
    flush(LAST_WORDS);
}

fn write_out(text: &str) -> Result {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        // The reader stopped, as in `… | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("cannot write the result")?),
    }
}

/// Any text as one line, with control characters escaped.
pub fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// As [`line`], but line breaks stay.
fn harmless(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Control characters, and marks that reorder, hide or break text.
fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A line cut to a number of characters, with `…` at a cut end.
pub fn shortened(text: &str, characters: usize) -> String {
    let shown = line(text);
    if shown.chars().count() <= characters { shown } else { shown.chars().take(characters - 1).chain(['…']).collect() }
}

/// Columns with sentences, which may be wrapped. All others have ids, names and numbers, which are copied and stay whole.
const SENTENCES: [&str; 3] = ["DESCRIPTION", "NOTE", "REASON"];
/// A column of sentences is no narrower than this, or than its longest sentence.
const SENTENCE_WIDTH: usize = 24;
/// Characters between two columns.
const GAP: u16 = 2;

/// A table without lines. On a terminal that is too narrow for it, each row becomes a paragraph. Elsewhere the width has no limit.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.iter().map(|cell| line(cell)).collect()).collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    let width = table.width().map_or(usize::MAX, usize::from);
    table.add_rows(rows.iter().map(|row| row.iter().map(Cell::new).collect::<Vec<_>>()));
    let contents: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
    let is_sentence = |index: usize| header.get(index).is_some_and(|name| SENTENCES.contains(name));
    let least = contents.iter().enumerate().map(|(index, content)| {
        let least = if is_sentence(index) { SENTENCE_WIDTH.min(*content) } else { *content };
        least + usize::from(GAP)
    });
    // The last column's gap is cut off.
    if least.sum::<usize>().saturating_sub(GAP.into()) > width {
        return rows.iter().map(|row| paragraph(header, row, width)).collect::<Vec<_>>().join("\n\n");
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, GAP));
        if !is_sentence(index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    table.trim_fmt()
}

/// A row as lines of `NAME  value`, without empty values. A value that has no place beside the names begins a line.
fn paragraph(header: &[&str], row: &[String], width: usize) -> String {
    let names = header.iter().map(|name| name.len()).max().unwrap_or(0);
    let known = header.iter().zip(row).filter(|(_, value)| !value.is_empty());
    known
        .map(|(name, value)| {
            let fits = names + usize::from(GAP) + value.chars().count() <= width;
            if fits { format!("{name:names$}  {value}") } else { format!("{name}\n{value}") }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// A count with its noun, such as `1 step` or `2 steps`.
pub fn counted(count: impl Display, noun: &str) -> String {
    let count = count.to_string();
    let plural = if count == "1" { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Lines of `name  value`, without empty values.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let known = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = known().map(|(name, _)| name.len()).max().unwrap_or(0);
    known().map(|(name, value)| format!("{name:width$}  {}\n", line(value))).collect()
}

/// A time of the API, in UTC and whole seconds. Any other text stays unchanged.
pub fn moment(text: &str) -> String {
    parse_time(text).map_or_else(|| text.to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// The duration between two times of the API; empty if one is unknown.
pub fn between(from: &str, to: &str) -> String {
    let (Some(from), Some(to)) = (parse_time(from), parse_time(to)) else { return String::new() };
    seconds(to.duration_since(from).as_secs_f64().max(0.0))
}

/// An age in whole seconds; 0 if the other clock is ahead of ours.
pub fn age(whole: i64) -> String {
    match whole {
        ..60 => format!("{} s", whole.max(0)),
        60.. => seconds(whole as f64),
    }
}

fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0 => format!("{:.0} ms", seconds * 1000.0),
        1..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Parses a time with a zone, or one without a zone as UTC.
fn parse_time(text: &str) -> Option<Timestamp> {
    let zoned = text.parse::<Timestamp>().ok();
    zoned.or_else(|| Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()))
}

/// Indents a JSON text without parsing its values. Hostile characters can only be in strings, where an escape means the same.
fn indent(json: &str) -> String {
    let (mut shown, mut depth, mut in_string, mut escaped) = (String::with_capacity(json.len() * 2), 0usize, false, false);
    for c in json.chars() {
        match c {
            // All hostile characters are in the basic plane, so each is one escape.
            _ if in_string && is_hostile(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ if in_string => shown.push(c),
            ' ' | '\n' | '\r' | '\t' => {}
            ':' => shown.push_str(": "),
            '{' | '[' => {
                depth += 1;
                shown.push(c);
                new_line(&mut shown, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                // An empty list or object stays on one line.
                shown.truncate(shown.trim_end().len());
                if !shown.ends_with(['{', '[']) {
                    new_line(&mut shown, depth);
                }
                shown.push(c);
            }
            ',' => {
                shown.push(c);
                new_line(&mut shown, depth);
            }
            _ => shown.push(c),
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && !escaped && c == '\\';
    }
    shown
}

fn new_line(shown: &mut String, depth: usize) {
    shown.push('\n');
    shown.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_never_obeyed() {
        assert_eq!(line("a\u{1b}[31mb\nc\u{9b}d\u{202e}e\u{7f}"), "a\\u{1b}[31mb\\nc\\u{9b}d\\u{202e}e\\u{7f}");
        assert_eq!(line("größe 注文 'x\"y"), "größe 注文 'x\"y");
    }

    #[test]
    fn a_table_keeps_a_hostile_name_in_its_row() {
        let shown = table(&["NAME", "STATE"], [vec!["a\nb\u{1b}[2J".into(), "complete".into()]]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("a\\nb\\u{1b}[2J  complete"), "{shown}");
    }

    #[test]
    fn json_is_indented_without_touching_its_values() {
        let json = r#"{"b":123456789012345678901234567890,"a":[1.50,"x, {y}: \"z\\",{ }, [ ]],"c":null}"#;
        let shown = indent(json);
        assert_eq!(
            shown,
            "{\n  \"b\": 123456789012345678901234567890,\n  \"a\": [\n    1.50,\n    \"x, {y}: \\\"z\\\\\",\n    {},\n    []\n  ],\n  \"c\": null\n}"
        );
    }

    #[test]
    fn json_for_a_terminal_holds_no_control_character() {
        let shown = indent("{\"a\":\"x\u{9b}2J\u{202e}\"}");
        assert_eq!(shown, "{\n  \"a\": \"x\\u009b2J\\u202e\"\n}");
    }

    #[test]
    fn times_are_utc_in_whole_seconds_with_and_without_a_zone() {
        assert_eq!(moment("2026-01-02T03:04:05.678901Z"), "2026-01-02 03:04:05Z");
        assert_eq!(moment("2026-01-02T03:04:05.678901"), "2026-01-02 03:04:05Z");
        assert_eq!(moment("2026-01-02T05:04:05+02:00"), "2026-01-02 03:04:05Z");
        assert_eq!(moment("soon"), "soon");
    }

    #[test]
    fn durations_are_as_exact_as_they_are_short() {
        assert_eq!(between("2026-01-02T03:04:05Z", "2026-01-02T03:04:13.25Z"), "8.2 s");
        assert_eq!(seconds(0.0123), "12 ms");
        assert_eq!(seconds(185.0), "3 min 05 s");
        assert_eq!(seconds(7260.0), "2 h 01 min");
        assert_eq!(between("2026-01-02T03:04:05Z", ""), "");
        assert_eq!([-1, 0, 59, 185].map(age), ["0 s", "0 s", "59 s", "3 min 05 s"]);
    }

    #[test]
    fn a_long_line_is_cut_visibly() {
        assert_eq!(shortened("abcdef", 6), "abcdef");
        assert_eq!(shortened("abcdefg", 6), "abcde…");
    }
}
