//! The dependencies of the SDK are few, without any of the database, the server or AWS. Those of the server are without AWS.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{collections::BTreeSet, env, io::ErrorKind, process::Command};

/// The limit, including the SDK's own crates. `CHANGELOG.md` names it.
const CRATES: usize = 43;

#[test]
fn the_tree_of_the_sdk_is_small_and_knows_no_server() {
    let Some(crates) = tree("tasker-sdk") else { return };
    assert!(crates.iter().any(|name| name.starts_with("tasker-wire ")), "{crates:?}");
    assert!(crates.len() <= CRATES, "{} crates are more than {CRATES}: {crates:#?}", crates.len());
    // PostgreSQL, JSON Schema, YAML, TLS, OpenAPI and AWS.
    assert_none(&crates, &["tokio-postgres", "jsonschema", "serde-saphyr", "rustls", "utoipa", "aws-", "tasker-domain"]);
}

#[test]
fn the_tree_of_the_server_knows_no_aws() {
    let Some(crates) = tree("tasker-server") else { return };
    assert!(crates.iter().any(|name| name.starts_with("tasker-worker ")), "{crates:?}");
    assert_none(&crates, &["aws", "lambda", "tasker-aws", "tasker-lambda"]);
}

/// Each crate once, as `NAME VERSION`. `None` without cargo.
fn tree(package: &str) -> Option<BTreeSet<String>> {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = ["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--format", "{p}", "-p", package];
    let output = match Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no cargo here, so the tree of {package} was not read");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    // Cargo marks a crate that it has listed before.
    let crates = tree.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty());
    Some(crates.map(str::to_owned).collect())
}

fn assert_none(crates: &BTreeSet<String>, foreign: &[&str]) {
    let found: Vec<_> = crates.iter().filter(|name| foreign.iter().any(|prefix| name.starts_with(prefix))).collect();
    assert!(found.is_empty(), "{found:?}");
}
