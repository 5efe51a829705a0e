//! `docs/templates.md` has a row for each key that a template may have. What the reader of templates does with a key is written into
//! the page; what the key means, and the tests that prove it, stand in the page alone.

use std::{collections::BTreeSet, fs, sync::LazyLock};

use super::{
    known::{self, Key, Kind, Object},
    read, root, tracked,
};

const PAGE: &str = "docs/templates.md";
const HEADS: &str = "| Key | Type | Default | Meaning | Proved by |";

/// What the page alone says of a key.
struct Row {
    object: String,
    key: String,
    meaning: String,
    proof: String,
}

/// The path of an object by the heading of its table; none of another heading.
fn object_of(heading: &str) -> Option<String> {
    let name = heading.strip_prefix("## `")?.strip_suffix('`')?;
    Some(if name == "the file" { String::new() } else { name.to_owned() })
}

fn rows(page: &str) -> Vec<Row> {
    let (mut object, mut rows) = (None, Vec::new());
    for line in page.lines() {
        if line.starts_with("## ") {
            object = object_of(line);
        } else if let (Some(object), Some(row)) = (&object, line.strip_prefix("| `")) {
            let (key, _) = row.split_once('`').unwrap();
            let mut cells = row.trim_end_matches('|').trim_end().rsplit(" | ");
            let [proof, meaning] = [(); 2].map(|()| cells.next().unwrap_or_default().trim().to_owned());
            rows.push(Row { object: object.clone(), key: key.to_owned(), meaning, proof });
        }
    }
    rows
}

/// The page with its tables written anew: its rows in its order, then those of keys that have none.
fn written(page: &str, objects: &[Object]) -> String {
    let rows = rows(page);
    let mut lines: Vec<String> = Vec::new();
    let mut object = None;
    for line in page.lines() {
        if line.starts_with("## ") {
            object = object_of(line);
        }
        let of = objects.iter().find(|known| Some(&known.path) == object.as_ref());
        match of {
            Some(of) if line.starts_with("| Key |") => lines.extend(table(of, &rows)),
            Some(_) if line.starts_with('|') => {}
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n") + "\n"
}

fn table(object: &Object, rows: &[Row]) -> Vec<String> {
    let of_object = || rows.iter().filter(|row| row.object == object.path);
    let known = of_object().filter_map(|row| Some((object.keys.iter().find(|key| key.name == row.key)?, Some(row))));
    let fresh = object.keys.iter().filter(|key| of_object().all(|row| row.key != key.name)).map(|key| (key, None));
    let heads = [HEADS.to_owned(), "|---|---|---|---|---|".to_owned()];
    heads.into_iter().chain(known.chain(fresh).map(|(key, row)| line(key, row))).collect()
}

fn line(key: &Key, row: Option<&Row>) -> String {
    let default = match (&key.default, key.is_required) {
        (_, true) => "required".to_owned(),
        (Some(default), _) => format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)),
        (None, _) => String::new(),
    };
    let (meaning, tests) = row.map_or(("", ""), |row| (&row.meaning, &row.proof));
    // Without a test, the note that the key has no effect.
    let proof = if tests.contains('`') { tests } else { key.note.as_deref().unwrap_or_default() };
    format!("| `{}` | {} | {default} | {meaning} | {proof} |", key.name, type_of(&key.kind))
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::Alias(of) => format!("as `{of}`"),
        Kind::Text => "text".to_owned(),
        Kind::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::Flag => "true or false".to_owned(),
        Kind::Number { least, most } => format!("{least} to {most}"),
        Kind::Schema => "JSON Schema".to_owned(),
        Kind::Object(path) if path.ends_with("[]") => "list of maps".to_owned(),
        Kind::Object(path) if path.ends_with(".*") => "map of maps".to_owned(),
        Kind::Object(_) | Kind::Map => "map".to_owned(),
        Kind::Texts => "list of texts".to_owned(),
        Kind::List => "list".to_owned(),
        Kind::Any => "any".to_owned(),
    }
}

#[test]
fn the_tables_are_those_of_the_reader() {
    let objects = known::objects();
    let page = read(PAGE);
    let written = written(&page, &objects);
    if std::env::var_os("TASKER_WRITE_DOCUMENTS").is_some() {
        fs::write(root().join(PAGE), written).unwrap();
        return;
    }
    let differs = written.lines().zip(page.lines()).find(|(written, line)| written != line);
    assert!(
        written == page,
        "{PAGE} is not what the reader of templates does. Run this test with TASKER_WRITE_DOCUMENTS=1, then say in the page what the \
         new keys mean. The first difference: {differs:#?}"
    );
    let headings: BTreeSet<String> = page.lines().filter_map(object_of).collect();
    // An overlay's block has the keys of the step's.
    let mut paths: BTreeSet<String> = objects.iter().map(|object| object.path.clone()).collect();
    assert!(paths.remove("environments.*.steps[].retry"));
    assert_eq!(headings, paths, "each object has a table");
}

#[test]
fn an_overlay_s_block_of_retries_has_the_keys_of_the_step_s() {
    let objects = known::objects();
    let table = |path: &str| table(objects.iter().find(|object| object.path == path).unwrap(), &[]);
    assert_eq!(table("environments.*.steps[].retry"), table("steps[].retry"));
}

#[test]
fn every_key_has_a_meaning_and_tests_that_speak_of_it_or_a_note_that_it_does_nothing() {
    let mut wrong = Vec::new();
    for Row { object, key, meaning, proof } in rows(&read(PAGE)) {
        if meaning.is_empty() || proof.is_empty() {
            wrong.push(format!("{object} {key} lacks what it means or what proves it"));
        }
        for name in proof.split('`').skip(1).step_by(2) {
            match test(name) {
                None => wrong.push(format!("{object} {key}: there is no test {name}")),
                Some(text) if !speaks_of(&text, &key) => {
                    wrong.push(format!("{object} {key}: the test {name} does not speak of it"))
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a text has the key as a word of its own.
fn speaks_of(text: &str, key: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(key).any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + key.len()..].starts_with(is_part))
}

static SOURCES: LazyLock<Vec<String>> = LazyLock::new(|| {
    tracked().iter().filter(|path| path.ends_with(".rs") || path.ends_with(".py")).map(|path| read(path)).collect()
});

/// The templates that tests name, by the name of the file without `.yaml`. Those beside the samples have names such as `linear`, which
/// a test may mean otherwise.
static TEMPLATES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let name = |path: &str| Some(path.strip_suffix(".yaml")?.rsplit('/').next()?.to_owned());
    let are_named = |path: &&String| path.contains("/fixtures/") || path.contains("/samples/");
    tracked().iter().filter(are_named).filter_map(|path| Some((name(path)?, read(path)))).collect()
});

/// The text of a test, with the functions of its file that it calls, and the templates that it names.
fn test(name: &str) -> Option<String> {
    let source = SOURCES.iter().find(|source| function(source, name).is_some())?;
    let mut names = vec![name.to_owned()];
    let mut text = String::new();
    let mut at = 0;
    while at < names.len() {
        let body = function(source, &names[at]).unwrap_or_default();
        for called in body.split('(').filter_map(|before| before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()) {
            if !called.is_empty() && !names.iter().any(|name| name == called) && function(source, called).is_some() {
                names.push(called.to_owned());
            }
        }
        text += &body;
        at += 1;
    }
    let named: Vec<&str> = TEMPLATES
        .iter()
        .filter(|(name, _)| text.contains(&format!("\"{name}\"")) || text.contains(&format!("{name}.yaml")))
        .map(|(_, template)| template.as_str())
        .collect();
    Some(text + &named.concat())
}

/// The lines of a function after its first, up to one that is indented as the first is.
fn function(source: &str, name: &str) -> Option<String> {
    if !source.contains(name) {
        return None;
    }
    let begins = |line: &&str| {
        let line = line.trim_start();
        ["fn ", "async fn ", "pub fn ", "pub async fn ", "def ", "async def "]
            .iter()
            .filter_map(|kind| line.strip_prefix(kind)?.strip_prefix(name))
            .any(|rest| rest.starts_with(['(', '<']))
    };
    let mut lines = source.lines().skip_while(|line| !begins(line));
    let first = lines.next()?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let body = lines.take_while(|line| line.trim().is_empty() || indent(line) > indent(first));
    Some(body.collect::<Vec<_>>().join("\n"))
}
