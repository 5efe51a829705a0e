//! `tasker-ctl dev` as a process among others: readers that stop, signals that are ignored, and orphans. On a real PostgreSQL of this
//! machine.

#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, PipeReader, Read},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tasker_test_support::{
    dev::{Place, dev_command, http},
    skip, wait_until,
};

/// Handlers of this test, which need no library of a test.
const WORKER: &str = r#"
import os
from tasker_worker import run, step_handler

@step_handler("chatter")
def chatter(context):
    for _ in range(20):
        print("x" * 8000)
    return {"said": 20}

@step_handler("orphans")
def orphans(context):
    for _ in range(120):
        parent = os.fork()
        if parent == 0:
            if os.fork() == 0:
                while os.getppid() == parent:
                    pass
            os._exit(0)
        os.waitpid(parent, 0)
    return {"left": 120}

run()
"#;

/// A folder that every user may enter, so that PostgreSQL stays in it.
fn home() -> Place {
    let home = Place::create();
    fs::set_permissions(home.dir.path(), Permissions::from_mode(0o755)).unwrap();
    fs::write(home.path("worker.py"), WORKER).unwrap();
    for callable in ["chatter", "orphans"] {
        home.template(&json!({"name": callable, "namespace_name": "t", "version": "1.0.0",
            "steps": [{"name": "only", "handler": {"callable": callable}}]}));
    }
    home
}

/// The command line of `dev`, behind words that start it in a special way.
fn behind(words: &[&str], home: &Place) -> Command {
    // The interpreter itself: a script in its place, as version managers have, may need the working folder.
    let python = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output().unwrap();
    let worker = format!("python={} {}", String::from_utf8(python.stdout).unwrap(), home.path("worker.py").display());
    let dev = dev_command(home, &["--worker", &worker]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(dev.get_program()).args(dev.get_args()).stdin(Stdio::null());
    for (name, value) in dev.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

struct Server {
    url: String,
    child: Child,
    stdout: BufReader<PipeReader>,
}

impl Server {
    /// Starts it and reads its output until it is ready, and no further. stdout and stderr are one pipe.
    fn start(mut command: Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let child = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        // The command holds our copies of the pipe's end.
        drop(command);
        let mut server = Self { url: String::new(), child, stdout: BufReader::new(reader) };
        let mut line = String::new();
        while !line.starts_with("ready: ") {
            line.clear();
            assert!(server.stdout.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
        }
        server.url = line.split(' ').nth(1).unwrap().to_owned();
        server
    }

    fn is_live(&self) -> bool {
        http("GET", &format!("{}/health/live", self.url), None).unwrap().0 == 200
    }

    fn run(&self, name: &str, count: usize) {
        run(&self.url, name, count);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn end_in_order(mut self) {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        // Its last lines must not wait for us.
        let reading = std::thread::spawn(move || self.stdout.read_to_end(&mut Vec::new()));
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        reading.join().unwrap().unwrap();
    }
}

/// Runs tasks to their end.
fn run(url: &str, name: &str, count: usize) {
    let submit = |no: usize| {
        let body = json!({"name": name, "namespace": "t", "context": {"no": no}}).to_string();
        let (status, _, answer) = http("POST", &format!("{url}/v1/tasks"), Some(body)).unwrap();
        assert_eq!(status, 201, "{answer}");
        format!("{url}/v1/tasks/{}?wait=20", answer["task_uuid"].as_str().unwrap())
    };
    let tasks: Vec<String> = (0..count).map(submit).collect();
    for task in tasks {
        wait_until("the task is complete", || http("GET", &task, None).unwrap().2["status"] == "complete");
    }
}

#[test]
fn output_that_nobody_reads_holds_up_nothing_and_lost_lines_are_counted() {
    let home = home();
    let mut command = behind(&["env"], &home);
    command.env("TASKER_LOG", "debug");
    let mut server = Server::start(command);
    server.run("chatter", 60);
    assert!(server.is_live());
    // The reader is back.
    let mut line = String::new();
    let dropped = loop {
        line.clear();
        assert!(server.stdout.read_line(&mut line).unwrap() > 0, "it says how many lines are lost");
        let logged: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("a torn line: {line}"));
        if let Some(dropped) = logged["dropped"].as_u64() {
            break dropped;
        }
    };
    assert!(dropped > 0);
    server.end_in_order();
}

#[test]
fn output_that_nobody_reads_does_not_hold_up_its_end() {
    let home = home();
    let mut server = Server::start(behind(&["env"], &home));
    server.run("chatter", 30);
    kill(server.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_ends_nothing() {
    let home = home();
    let Server { url, mut child, stdout } = Server::start(behind(&["env"], &home));
    drop(stdout);
    run(&url, "chatter", 5);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn nohup_keeps_it_alive() {
    let home = home();
    let server = Server::start(behind(&["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"], &home));
    for signal in [Signal::SIGHUP, Signal::SIGHUP, Signal::SIGINT, Signal::SIGINT] {
        kill(server.pid(), signal).unwrap();
    }
    server.run("chatter", 1);
    assert!(server.is_live());
    server.end_in_order();
}

#[test]
fn a_removed_working_folder_a_read_only_home_and_a_closed_stdin_are_no_hindrance() {
    let home = home();
    fs::create_dir(home.path("gone")).unwrap();
    let line = format!("cd {0} && rmdir {0} && exec \"$@\" <&-", home.path("gone").display());
    let mut command = behind(&["sh", "-c", &line, "sh"], &home);
    command.env("HOME", "/proc").env("TMPDIR", "");
    let server = Server::start(command);
    server.run("chatter", 1);
    server.end_in_order();
}

#[test]
fn as_process_1_it_leaves_no_ended_orphan() {
    const WORDS: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !Command::new(WORDS[0]).args(&WORDS[1..]).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return skip("tasker-ctl dev as process 1, because unshare makes no namespace of processes here");
    }
    let home = home();
    let mut server = Server::start(behind(&WORDS, &home));
    server.run("orphans", 1);
    let unshare = server.pid();
    let process_1: i32 = children(unshare.as_raw())[0];
    wait_until("no ended process is left", || !children(process_1).into_iter().any(is_zombie));
    kill(Pid::from_raw(process_1), Signal::SIGTERM).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
