//! The workspace's binaries, and processes.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout is there")
}

/// A binary of this workspace, beside the tests' own.
pub fn binary(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("a test knows its own path");
    let path = tests.parent().and_then(Path::parent).expect("tests are in a folder of the binaries").join(name);
    assert!(
        path.exists(),
        "{} is missing: run the tests with ./scripts/test, or build it with cargo build --workspace",
        path.display()
    );
    path
}

/// Reports that something was not tested: here, and once at the end of `./scripts/test`, although each test is a process.
pub fn skip(what: &str) {
    eprintln!("SKIPPED: {what}");
    let Some(path) = std::env::var_os("TASKER_SKIPS").filter(|path| !path.is_empty()) else { return };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).expect("TASKER_SKIPS can be written");
    file.lock().expect("TASKER_SKIPS can be locked");
    if !fs::read_to_string(&path).expect("TASKER_SKIPS can be read").contains(what) {
        writeln!(file, "{what}").expect("TASKER_SKIPS can be written");
    }
}

/// `kill -9`. False: the process had ended already.
pub fn kill_now(pid: i32) -> bool {
    Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A builder of an HTTP client. Reqwest needs a TLS provider even where every URL is `http://`.
pub fn http_client() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}
