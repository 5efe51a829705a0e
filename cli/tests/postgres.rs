//! `tasker-ctl postgres` as a process: what the command sees, and what is left. On a real PostgreSQL of this machine.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::Value;

fn postgres(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
    command.arg("postgres").args(arguments).stdin(Stdio::null());
    command
}

fn socket_dir(url: &str) -> PathBuf {
    let (_, folder) = url.trim().split_once("host=").unwrap();
    folder.split('&').next().unwrap().into()
}

/// The folder of a throw-away PostgreSQL, and its process.
fn left_of(url: &str) -> (PathBuf, Pid) {
    let cluster = socket_dir(url);
    let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    (cluster.parent().unwrap().to_owned(), Pid::from_raw(text.lines().next().unwrap().parse().unwrap()))
}

fn assert_nothing_is_left((folder, server): (PathBuf, Pid)) {
    assert!(!folder.exists(), "{} is left", folder.display());
    assert!(command_line(server.as_raw()).is_empty(), "the server still runs");
}

/// Empty once the process has ended, also while nobody waited for it.
fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

#[test]
fn a_command_finds_a_database_its_exit_code_is_returned_and_nothing_is_left() {
    let script =
        r#"echo "$TASKER_TEST_DATABASE_URL"; test -S "${TASKER_TEST_DATABASE_URL#*host=}/.s.PGSQL.5432" || exit 1; exit 7"#;
    let output = postgres(&["run", "sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = socket_dir(std::str::from_utf8(&output.stdout).unwrap());
    assert!(folder.starts_with("/tmp") && !folder.parent().unwrap().exists(), "{}", folder.display());
}

/// A command that prints its database and then waits for its end.
fn waiting() -> (Child, (PathBuf, Pid)) {
    let script = r#"echo "$TASKER_TEST_DATABASE_URL"; exec sleep 1000"#;
    let mut child = postgres(&["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    (child, left_of(&url))
}

#[test]
fn a_signal_is_given_to_the_command_and_nothing_is_left() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let (mut child, left) = waiting();
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal as i32));
        assert_nothing_is_left(left);
    }
}

#[test]
fn ctrl_c_at_the_terminal_ends_the_command_and_nothing_is_left() {
    let (mut child, left) = waiting();
    // As a terminal does it: the whole group is interrupted.
    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + Signal::SIGINT as i32));
    assert_nothing_is_left(left);
}

#[test]
fn a_command_that_cannot_be_run_is_named_and_nothing_is_left() {
    let output = postgres(&["run", "--setting", "cluster_name=of_no_such_program", "/no/such/program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: cannot run /no/such/program: "), "{said}");
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    assert!(!processes.map(command_line).any(|line| line.contains("of_no_such_program")));
}

#[test]
fn a_started_server_is_reached_over_tls_until_it_is_stopped_and_a_restart_keeps_port_and_password() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let data = home.path().join("data");
    let first = start(&data);
    let tls = &first["tls"];
    let by_tls = |authority: &str| {
        let (password, port) = (tls["password"].as_str().unwrap(), &tls["port"]);
        let file = Path::new(tls["authority"].as_str().unwrap()).with_file_name(authority);
        format!("postgres://tasker:{password}@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={}", file.display())
    };
    let migrated = db(&["migrate", "--database-url", &by_tls("ca.crt")]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let refused = db(&["status", "--database-url", &by_tls("other-ca.crt")]);
    assert_eq!(refused.status.code(), Some(1), "another authority did not sign its certificate");

    let stop = |arguments: &[&str]| assert!(postgres(arguments).arg("--data-dir").arg(&data).status().unwrap().success());
    stop(&["stop"]);
    assert_eq!(db(&["status", "--database-url", &by_tls("ca.crt")]).status.code(), Some(1), "it is stopped");
    assert_eq!(start(&data), first);
    let status = db(&["status", "-o", "json", "--database-url", &by_tls("ca.crt")]);
    assert!(!String::from_utf8(status.stdout).unwrap().contains("false"), "the schema is still there");
    let (_, server) = left_of(first["url"].as_str().unwrap());
    stop(&["stop", "--remove"]);
    assert_nothing_is_left((data.clone(), server));
    stop(&["stop", "--remove"]);
}

fn start(data: &Path) -> Value {
    let output = postgres(&["start", "--tls", "--data-dir"]).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn db(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_tasker-ctl")).arg("db").args(arguments).output().unwrap()
}
