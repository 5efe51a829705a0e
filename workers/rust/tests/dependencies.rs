//! The dependencies of the SDK are few, without any of the database, the server or AWS.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{collections::BTreeSet, env, io::ErrorKind, process::Command};

/// The limit, including the SDK's own crates. `CHANGELOG.md` names it.
const CRATES: usize = 43;

/// Prefixes of crates for PostgreSQL, JSON Schema, YAML, TLS, OpenAPI and AWS.
const FOREIGN: &[&str] = &["tokio-postgres", "jsonschema", "serde-saphyr", "rustls", "utoipa", "aws-", "tasker-domain"];

#[test]
fn the_tree_of_the_sdk_is_small_and_knows_no_server() {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let arguments = "tree --locked --offline -p tasker-sdk -e normal --prefix none --format {p}";
    let output = match Command::new(cargo).args(arguments.split(' ')).current_dir(env!("CARGO_MANIFEST_DIR")).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no cargo here, so the tree of the SDK was not counted");
            return;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    // A crate that several others need is repeated with this mark.
    let crates: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).filter(|line| !line.is_empty()).collect();
    assert!(crates.iter().any(|name| name.starts_with("tasker-wire ")), "{crates:?}");
    assert!(crates.len() <= CRATES, "{} crates are more than {CRATES}: {crates:#?}", crates.len());
    let foreign: Vec<_> = crates.iter().filter(|name| FOREIGN.iter().any(|foreign| name.starts_with(foreign))).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}
