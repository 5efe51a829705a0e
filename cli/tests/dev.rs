//! `tasker-ctl dev` as a process: what it starts, refuses and leaves behind. On a real PostgreSQL of this machine.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::ExitStatus,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tasker_test_support::dev::{Dev, Place, Starting, dev_command};

fn start(home: &Place) -> Dev {
    start_with(home, &[])
}

fn start_with(home: &Place, variables: &[(&str, &str)]) -> Dev {
    let mut command = dev_command(home, &[]);
    command.envs(variables.iter().copied()).process_group(0);
    Starting::launch(command).ready()
}

/// The process of the folder's PostgreSQL.
fn server(home: &Place) -> Pid {
    Pid::from_raw(home.postmaster())
}

fn pid(dev: &Dev) -> Pid {
    Pid::from_raw(dev.child.id().cast_signed())
}

fn end_by(mut dev: Dev, signal: Signal) -> ExitStatus {
    kill(pid(&dev), signal).unwrap();
    dev.child.wait().unwrap()
}

/// A folder that every user may enter, so that PostgreSQL stays in it.
fn home() -> Place {
    let home = Place::create();
    fs::set_permissions(home.dir.path(), Permissions::from_mode(0o755)).unwrap();
    home
}

fn lives(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

#[test]
fn a_signal_ends_it_in_order_and_nothing_is_left() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let home = home();
        let dev = start(&home);
        let server = server(&home);
        assert_eq!(end_by(dev, signal).code(), Some(0), "{signal}");
        assert!(!lives(server), "{signal}");
    }
}

#[test]
fn after_a_kill_the_next_one_adopts_the_database_and_ends_it() {
    let home = home();
    let killed = start(&home);
    let survivor = server(&home);
    end_by(killed, Signal::SIGKILL);
    assert!(lives(survivor));

    let next = start(&home);
    assert_eq!(server(&home), survivor);
    end_by(next, Signal::SIGTERM);
    assert!(!home.path("data/postgres/postmaster.pid").exists());
}

#[test]
fn ctrl_c_at_the_terminal_does_not_reach_the_database_before_us() {
    let home = home();
    let dev = start(&home);
    let group = |pid: Pid| nix::unistd::getpgid(Some(pid)).unwrap();
    assert_ne!(group(server(&home)), group(pid(&dev)));
    end_by(dev, Signal::SIGINT);
}

#[test]
fn a_second_server_on_the_same_data_names_the_process_that_holds_it() {
    let home = home();
    let first = start(&home);
    let second = dev_command(&home, &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("is in use by process {}; stop it or give another --data-dir", first.child.id())), "{said}");
    assert_eq!(end_by(first, Signal::SIGTERM).code(), Some(0));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let home = home();
    let empty =
        ["DATABASE_URL", "TASKER_ENV", "TASKER_LOG", "TASKER_URL", "PG_BIN", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "NO_COLOR"];
    let white = ["TASKER_POOL", "AWS_REGION", "SSL_CERT_FILE"];
    let dev = start_with(&home, &[empty.map(|name| (name, "")).as_slice(), &white.map(|name| (name, " "))].concat());
    assert!(lives(server(&home)), "the private database is used");
    assert_eq!(end_by(dev, Signal::SIGTERM).code(), Some(0));
}

#[test]
fn a_wrong_variable_ends_it_with_one_sentence_that_names_it_and_starts_nothing() {
    let home = home();
    for (name, value, expected) in [
        ("TASKER_ENV", "a b", "an environment has 1 to 64 of the characters A-Z a-z 0-9 _ -"),
        ("DATABASE_URL", "mysql://me:s3cret@db/x", "the database URL cannot be read"),
    ] {
        let output = dev_command(&home, &[]).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with(&format!("error: {name} is wrong: {expected}")) && !said.contains("s3cret"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    assert!(!home.path("data").exists());
}

#[test]
fn without_postgresql_the_remedy_is_named_in_one_line() {
    let home = home();
    let output = dev_command(&home, &[]).env("PG_BIN", home.dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("error: PostgreSQL 15 or newer is needed") && said.contains("apt-get install postgresql"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
