//! `tasker-ctl dev` as a process: what it starts, refuses and leaves behind. On a real PostgreSQL of this machine.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A `dev` that said it is ready.
struct Dev {
    process: Child,
    data: PathBuf,
}

impl Dev {
    fn start(home: &Path) -> Self {
        Self::with(home, &[])
    }

    fn with(home: &Path, variables: &[(&str, &str)]) -> Self {
        let data = home.join("data");
        let mut process = command(&data).envs(variables.iter().copied()).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        // Logs may come before it.
        let mut line = String::new();
        while !line.starts_with("ready") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended before it was ready");
        }
        // Kept open: who writes to a closed pipe fails.
        std::thread::spawn(move || said.read_to_end(&mut Vec::new()));
        Self { process, data }
    }

    /// The PostgreSQL's process.
    fn server(&self) -> Pid {
        let text = fs::read_to_string(self.data.join("postgres/postmaster.pid")).unwrap();
        Pid::from_raw(text.lines().next().unwrap().parse().unwrap())
    }

    fn end_by(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
        self.process.wait().unwrap()
    }
}

fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
    command.args(["dev", "--port", "0", "--data-dir"]).arg(data).env_remove("DATABASE_URL").stdin(Stdio::null());
    command
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    home
}

fn lives(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[test]
fn a_signal_ends_it_in_order_and_nothing_is_left() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let home = home();
        let dev = Dev::start(home.path());
        let server = dev.server();
        assert_eq!(dev.end_by(signal).code(), Some(0), "{signal}");
        assert!(!lives(server), "{signal}");
    }
}

#[test]
fn after_a_kill_the_next_one_adopts_the_database_and_ends_it() {
    let home = home();
    let killed = Dev::start(home.path());
    let survivor = killed.server();
    killed.end_by(Signal::SIGKILL);
    assert!(lives(survivor));

    let next = Dev::start(home.path());
    assert_eq!(next.server(), survivor);
    next.end_by(Signal::SIGTERM);
    assert!(!home.path().join("data/postgres/postmaster.pid").exists());
}

#[test]
fn ctrl_c_at_the_terminal_does_not_reach_the_database_before_us() {
    let home = home();
    let dev = Dev::start(home.path());
    let group = |pid: Pid| nix::unistd::getpgid(Some(pid)).unwrap();
    assert_ne!(group(dev.server()), group(Pid::from_raw(dev.process.id().cast_signed())));
    dev.end_by(Signal::SIGINT);
}

#[test]
fn a_second_one_on_the_same_data_is_told_who_has_it() {
    let home = home();
    let first = Dev::start(home.path());
    let second = command(&first.data).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("is in use by process {}; stop it or give another --data-dir", first.process.id())), "{said}");
    assert_eq!(first.end_by(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let home = home();
    let dev =
        Dev::with(home.path(), &["DATABASE_URL", "TASKER_ENV", "TASKER_LOG", "TASKER_URL", "PG_BIN"].map(|name| (name, "")));
    assert!(lives(dev.server()), "the private database is used");
    assert_eq!(dev.end_by(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_wrong_variable_ends_it_with_one_sentence_that_names_it_and_starts_nothing() {
    let home = home();
    let data = home.path().join("data");
    for (name, value, expected) in [
        ("TASKER_ENV", "a b", "an environment has 1 to 64 of the characters A-Z a-z 0-9 _ -"),
        ("DATABASE_URL", "mysql://me:s3cret@db/x", "the database URL cannot be read"),
    ] {
        let output = command(&data).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error: {name} is wrong: {expected}")) && !said.contains("s3cret"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!data.exists());
}

#[test]
fn without_postgresql_the_remedy_is_named_in_one_line() {
    let home = home();
    let output = command(&home.path().join("data")).env("PG_BIN", home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: PostgreSQL 15 or newer is needed") && said.contains("apt-get install postgresql"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
