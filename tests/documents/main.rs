//! What documents say that can be checked without understanding it: the files and folders they name are there, links lead
//! somewhere, and a public type's name stands for one thing.

#![allow(clippy::unwrap_used, reason = "a test that meets nothing has failed")]

#[path = "../../shared/domain/tests/known/mod.rs"]
mod known;
mod templates;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PAGES: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/dead-letters.md",
    "docs/operating.md",
    "docs/performance.md",
    "docs/promise.md",
    "docs/templates.md",
    "localstack/README.md",
    "workers/README.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Everything that the repository holds, folders too.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-c", "-o", "--exclude-standard"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let mut paths: Vec<String> = String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect();
    paths.retain(|path| root().join(path).exists());
    let folders: Vec<String> = paths
        .iter()
        .flat_map(|p| Path::new(p).ancestors().skip(1).map(|a| a.display().to_string()).collect::<Vec<_>>())
        .collect();
    paths.extend(folders);
    paths.sort();
    paths.dedup();
    paths.retain(|path| !path.is_empty());
    paths
}

/// The texts between backticks on a page, outside of its code blocks.
fn quoted(page: &str) -> Vec<String> {
    let mut in_block = false;
    let mut texts = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            texts.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    texts
}

/// The paths that a quoted text names: its first folder is one of the repository's or of its tests. `*` stands for any name, `{a,b}`
/// for each of them.
fn paths_of(text: &str, tracked: &[String]) -> Vec<String> {
    let text = text.trim_end_matches('/');
    let is_path = text.contains('/') && !text.contains([' ', '$', '<', ':', '…', '=']);
    let first = text.split('/').next().unwrap_or_default();
    if !is_path || !is_there(first, tracked) {
        return Vec::new();
    }
    let Some((before, rest)) = text.split_once('{') else { return vec![text.to_owned()] };
    let Some((names, after)) = rest.split_once('}') else { return vec![text.to_owned()] };
    names.split(',').map(|name| format!("{before}{}{after}", name.trim())).collect()
}

/// Whether a path is there; pages about tests name it from the folder `tests`.
fn is_there(path: &str, tracked: &[String]) -> bool {
    tracked.iter().flat_map(|p| [Some(&**p), p.strip_prefix("tests/")]).flatten().any(|p| match path.split_once('*') {
        Some((before, after)) => p.starts_with(before) && p.ends_with(after),
        None => p == path,
    })
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let tracked = tracked();
    let mut missing = Vec::new();
    for page in PAGES {
        for text in quoted(&read(page)) {
            let paths = paths_of(&text, &tracked);
            missing.extend(paths.iter().filter(|p| !is_there(p, &tracked)).map(|p| format!("{page} names {p}")));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_row_of_where_a_change_goes_names_files() {
    let page = read("ARCHITECTURE.md");
    let (_, section) = page.split_once("## Where does a change go").expect("the section is there");
    let tracked = tracked();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| a new ")).collect();
    assert!(rows.len() >= 10, "only {} rows", rows.len());
    for row in rows {
        let paths: usize = quoted(row).iter().map(|text| paths_of(text, &tracked).len()).sum();
        assert!(paths > 0, "names no file: {row}");
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in PAGES {
        let text = read(page);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = root().join(page).parent().unwrap().to_path_buf();
            if !folder.join(target).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_architecture_fits_into_its_250_lines() {
    let lines = read("ARCHITECTURE.md").lines().count();
    assert!(lines <= 250, "{lines} lines");
}

#[test]
fn the_name_of_a_public_type_stands_for_one_thing() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in tracked() {
        let is_product = path.ends_with(".rs") && path.contains("/src/") && !path.starts_with("tests/");
        if !is_product {
            continue;
        }
        for line in read(&path).lines() {
            let declared = ["pub struct ", "pub enum ", "pub trait "].iter().find_map(|kind| line.strip_prefix(kind));
            let name: Option<String> = declared.map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect());
            if let Some(name) = name {
                places.entry(name).or_default().push(path.clone());
            }
        }
    }
    let twice: Vec<String> = places
        .into_iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}
