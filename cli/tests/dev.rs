//! `tasker-ctl dev` as a process: what it starts, refuses and leaves behind. On a real PostgreSQL of this machine.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
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
fn a_folder_of_templates_is_registered_once_whatever_else_is_in_it() {
    let home = home();
    let at = |name: &str| home.path("templates").join(name);
    let write = |name: &str, template: &str, callable: &str| {
        let step = json!({"name": "a", "handler": {"callable": callable}});
        let template = json!({"name": template, "version": "1.0.0", "steps": [step]});
        fs::write(at(name), template.to_string()).unwrap();
    };
    // What is registered, with its revision; what was said of the folder.
    let start = || {
        let mut command = dev_command(&home, &[]);
        command.stderr(Stdio::from(fs::File::create(home.path("stderr")).unwrap()));
        let dev = Starting::launch(command).ready();
        let revision = |name: &str| dev.get(&format!("/v1/templates/default/{name}/1.0.0"))["revision"].as_i64();
        let revisions = ["deep", "good", "twice"].map(revision);
        assert!(dev.stop());
        (revisions, fs::read_to_string(home.path("stderr")).unwrap())
    };
    fs::create_dir_all(at("shop/inner")).unwrap();
    assert!(start().1.contains("has no template: no file ends in .yaml or .yml"));

    write("shop/inner/deep.yml", "deep", "a");
    write("good.yaml", "good", "a");
    write("twice.yaml", "twice", "a");
    write("shop/copy of twice.yaml", "twice", "b");
    fs::write(at("broken.yaml"), b"\xff").unwrap();
    let (revisions, said) = start();
    assert_eq!(revisions, [Some(1), Some(1), None]);
    for file in ["twice.yaml: default/twice 1.0.0 is also in", "copy of twice.yaml: default/twice", "broken.yaml: is not UTF-8"] {
        assert!(said.contains(file), "{file}: {said}");
    }
    assert!(said.contains("3 of 5 templates were not registered"), "{said}");
    assert_eq!(start().0, revisions, "an unchanged folder makes no revision");

    // Changed and changed back: each change is a revision, and a start without one is none.
    for (callable, revision) in [("b", 2), ("b", 2), ("a", 3), ("a", 3)] {
        write("good.yaml", "good", callable);
        assert_eq!(start().0, [Some(1), Some(revision), None], "{callable}");
    }
}

#[test]
fn work_that_no_worker_will_do_is_told_at_every_start() {
    let home = home();
    let step = json!({"name": "a", "worker": "gamma", "handler": {"callable": "a"}});
    home.template(&json!({"name": "lost", "version": "1.0.0", "steps": [step]}));
    let said = || {
        let mut command = dev_command(&home, &[]);
        command.stderr(Stdio::from(fs::File::create(home.path("stderr")).unwrap()));
        assert!(Starting::launch(command).ready().stop());
        fs::read_to_string(home.path("stderr")).unwrap()
    };
    let expected = "work of default/lost 1.0.0 waits for a worker of pool gamma; none is known: give --worker NAME=COMMAND";
    assert!(said().contains(expected));
    fs::remove_file(home.path("templates/lost.yaml")).unwrap();
    let told = said();
    assert!(told.contains(expected), "the template is still in the database: {told}");
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

#[test]
fn a_task_without_workers_is_explained_at_the_command_line() {
    let home = home();
    let step = json!({"name": "a", "handler": {"callable": "a"}});
    home.template(&json!({"name": "alone", "version": "1.0.0", "steps": [step]}));
    let dev = start(&home);
    let task = dev.submit("default", "alone", json!({}));
    let output = dev.ctl(&["task", "explain", &task]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let expected = "a waits for a worker of pool default; none is known. It is dispatched since ";
    assert!(shown.contains(expected) && shown.contains("\n  Start a worker of pool default.\n"), "{shown}");
    let unknown = dev.ctl(&["task", "explain", "01990000-0000-7000-8000-000000000000"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", String::from_utf8_lossy(&unknown.stderr));
    assert!(dev.stop());
}
