//! Finds PostgreSQL's programs on this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, anyhow, bail};

use crate::data_dir::read_line;

/// The oldest supported major version.
const OLDEST: u32 = 15;

/// An installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub bin: PathBuf,
    pub major: u32,
}

/// Finds the newest supported PostgreSQL, or the one of version `needed`, which existing data requires.
pub fn find(needed: Option<u32>) -> Result<Installed> {
    // PG_BIN is exclusive: no other folder is searched.
    let ordered = tasker_process::settings::path("PG_BIN");
    let folders = ordered.clone().map_or_else(folders, |folder| vec![folder]);
    let installed: Vec<_> = folders.into_iter().filter_map(look).collect();
    choose(&installed, needed).ok_or_else(|| missing(&installed, ordered.as_deref(), needed))
}

fn choose(installed: &[Installed], needed: Option<u32>) -> Option<Installed> {
    let fits = |i: &&Installed| needed.map_or(i.major >= OLDEST, |needed| i.major == needed);
    // The first of the newest: earlier folders take precedence.
    installed.iter().filter(fits).rev().max_by_key(|i| i.major).cloned()
}

fn missing(installed: &[Installed], ordered: Option<&Path>, needed: Option<u32>) -> anyhow::Error {
    let found = match (installed.iter().map(|i| i.major).max(), ordered) {
        (Some(major), _) => format!("found only version {major}"),
        (None, Some(folder)) => format!("PG_BIN is {}, which has no `initdb` and `postgres`", folder.display()),
        (None, None) => "found none on this machine".into(),
    };
    match needed {
        Some(needed) => anyhow!(
            "the data was written by PostgreSQL {needed} and needs the same ({found}): `apt-get install postgresql-{needed}`, \
             set PG_BIN to the folder of its programs, or give another --data-dir"
        ),
        None => anyhow!(
            "PostgreSQL {OLDEST} or newer is needed ({found}): `apt-get install postgresql`, set PG_BIN to the folder of its programs, \
             or give a --database-url"
        ),
    }
}

/// The folders to search, by precedence, with those of Debian's and Red Hat's packages and of builds from source.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = asked_of_pg_config().into_iter().collect();
    folders.extend(tasker_process::settings::path("PATH").iter().flat_map(env::split_paths));
    folders.extend(children("/usr/lib/postgresql", ""));
    folders.extend(children("/usr", "pgsql-"));
    folders.push("/usr/local/pgsql/bin".into());
    folders
}

fn asked_of_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| folder.trim().into())
}

fn children(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join("bin"))
        .collect()
}

fn look(bin: PathBuf) -> Option<Installed> {
    if !bin.join("initdb").is_file() || !bin.join("postgres").is_file() {
        return None;
    }
    let major = version_of(&bin.join("postgres"))?;
    Some(Installed { bin, major })
}

fn version_of(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Parses `postgres (PostgreSQL) 15.18 (Debian …)`, also `18beta1`.
fn parse_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The major version of the data in a cluster's folder. `None` if there is no cluster.
pub fn version_of_data(cluster: &Path) -> Result<Option<u32>> {
    let path = cluster.join("PG_VERSION");
    let Some(text) = read_line(&path)? else { return Ok(None) };
    let Ok(major) = text.parse() else { bail!("{} does not contain a version: `{}`", path.display(), text.escape_debug()) };
    Ok(Some(major))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(folder: &str, major: u32) -> Installed {
        Installed { bin: folder.into(), major }
    }

    #[test]
    fn versions_are_read_with_and_without_a_vendor() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("command not found"), None);
    }

    #[test]
    fn the_newest_is_chosen_for_new_data_and_the_same_for_old() {
        let all = [installed("/a", 15), installed("/b", 17), installed("/c", 17), installed("/d", 14)];
        assert_eq!(choose(&all, None), Some(installed("/b", 17)));
        assert_eq!(choose(&all, Some(15)), Some(installed("/a", 15)));
        assert_eq!(choose(&all, Some(16)), None);
        assert_eq!(choose(&all[3..], None), None);
    }

    #[test]
    fn a_missing_or_old_postgresql_is_one_sentence_with_the_remedy() {
        let none = missing(&[], None, None).to_string();
        assert!(none.contains("PostgreSQL 15 or newer is needed") && none.contains("apt-get install postgresql"), "{none}");
        let ordered = missing(&[], Some(Path::new("/empty")), None).to_string();
        assert!(ordered.contains("PG_BIN is /empty, which has no"), "{ordered}");
        let old = missing(&[installed("/d", 14)], None, None).to_string();
        assert!(old.contains("found only version 14"), "{old}");
        let other = missing(&[installed("/b", 17)], None, Some(16)).to_string();
        assert!(other.contains("written by PostgreSQL 16") && other.contains("another --data-dir"), "{other}");
        assert!(!(none + &ordered + &old + &other).contains('\n'));
    }
}
