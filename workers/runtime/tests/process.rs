//! `tasker-worker` as a process among others: readers that stop, signals that are ignored, and orphans.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::fd::OwnedFd,
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use common::{python, step, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Worker {
    process: Child,
    answers: mpsc::Receiver<Value>,
    steps: i32,
}

impl Worker {
    /// Behind words that start it in a special way.
    fn behind(words: &[&str]) -> Self {
        let program = [env!("CARGO_BIN_EXE_tasker-worker"), "--stdio", "--"];
        let child = python("habits.py");
        let words: Vec<&str> = words.iter().copied().chain(program).chain(child.split(' ')).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (say, answers) = mpsc::channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, answers, steps: 0 }
    }

    fn send(&mut self, callable: &str, context: Value) {
        let step = serde_json::to_string(&step(self.steps, callable, context)).unwrap();
        writeln!(self.process.stdin.as_mut().unwrap(), "{step}").unwrap();
        self.steps += 1;
    }

    fn outcome(&mut self) -> Value {
        self.answers.recv_timeout(PATIENCE).expect("the worker goes on")["outcome"].take()
    }

    fn run(&mut self, callable: &str, context: Value) -> Value {
        self.send(callable, context);
        self.outcome()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id().cast_signed())
    }

    /// Closes stdin. Returns its exit code.
    fn end(mut self) -> Option<i32> {
        drop(self.process.stdin.take());
        self.process.wait().unwrap().code()
    }
}

/// The number of lines that the log says are lost.
fn told_of_lost_lines(stderr: ChildStderr) -> u64 {
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let mut logged = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("a torn line: {line}")));
    logged.find_map(|line| line["dropped"].as_u64()).expect("the log says that lines are missing")
}

#[test]
fn logs_that_nobody_reads_hold_up_no_step_and_lost_lines_are_counted() {
    let mut worker = Worker::behind(&["env"]);
    let stderr = worker.process.stderr.take().unwrap();
    for _ in 0..40 {
        worker.send("chatter", json!({"lines": 20}));
    }
    for _ in 0..40 {
        assert!(worker.outcome()["success"].is_object());
    }
    // The reader is back.
    let reading = std::thread::spawn(move || told_of_lost_lines(stderr));
    assert!(reading.join().unwrap() > 0);
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn a_closed_stderr_and_a_full_disk_under_it_hold_up_nothing() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (_, closed) = std::io::pipe().unwrap();
    for stderr in [OwnedFd::from(full), closed.into()] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
        command.args(["--stdio", "--"]).args(python("habits.py").split(' '));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(stderr)).spawn().unwrap();
        let mut stdin = process.stdin.take().unwrap();
        for no in 0..3 {
            writeln!(stdin, "{}", serde_json::to_string(&step(no, "chatter", json!({"lines": 20}))).unwrap()).unwrap();
        }
        drop(stdin);
        let output = process.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout.split(|byte| *byte == b'\n').count()), (Some(0), 4));
    }
}

#[test]
fn outcomes_that_nobody_reads_do_not_hold_up_its_end() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    command.args(["--stdio", "--drain-timeout", "1", "--"]).args(python("habits.py").split(' '));
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = process.stdin.take().unwrap();
    for no in 0..3 {
        writeln!(stdin, "{}", serde_json::to_string(&step(no, "large", json!({"bytes": 200_000}))).unwrap()).unwrap();
    }
    // The first outcome has begun, and the pipe takes no more.
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let mut worker = Worker::behind(&["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh"]);
    worker.run("ok", json!({}));
    for signal in [Signal::SIGHUP, Signal::SIGHUP, Signal::SIGINT, Signal::SIGINT] {
        kill(worker.pid(), signal).unwrap();
    }
    assert!(worker.run("ok", json!({}))["success"].is_object());
    kill(worker.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(worker.process.wait().unwrap().code(), Some(0));
}

#[test]
fn logs_are_coloured_on_a_terminal_that_takes_colours() {
    let shown = |variable: (&str, &str)| {
        let mut command = Command::new("python3");
        command.args([
            "-c",
            "import pty, sys; pty.spawn(sys.argv[1:])",
            env!("CARGO_BIN_EXE_tasker-worker"),
            "--poll",
            "--",
            "true",
        ]);
        command.env_remove("NO_COLOR").env_remove("TASKER_QUEUES").env("TERM", "xterm-256color").env(variable.0, variable.1);
        let shown = String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stdout).unwrap();
        assert!(shown.contains("TASKER_QUEUES is not set"), "{shown}");
        shown
    };
    assert!(shown(("NO_COLOR", "")).contains('\u{1b}'));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!shown(variable).contains('\u{1b}'), "{variable:?}");
    }
}

#[test]
fn handlers_do_not_inherit_that_a_broken_pipe_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("status");
    let line = format!("grep SigIgn /proc/self/status >{}; exec {}", file.display(), python("habits.py"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    let status = command.args(["--stdio", "--", "sh", "-c", &line]).stdin(Stdio::null()).status().unwrap();
    assert!(status.success());
    let said = fs::read_to_string(file).unwrap();
    let mask = u64::from_str_radix(said.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(mask & (1 << (Signal::SIGPIPE as i32 - 1)), 0, "{said}");
}

/// What makes a command process 1 of its own namespace. `None`, and said so, where that is not allowed.
fn as_process_1() -> Option<&'static [&'static str]> {
    const WORDS: &[&str] = &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if Command::new(WORDS[0]).args(&WORDS[1..]).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Some(WORDS);
    }
    let what = "tasker-worker as process 1, because unshare makes no namespace of processes here";
    eprintln!("SKIPPED: {what}");
    if let Some(file) = std::env::var_os("TASKER_SKIPS").filter(|path| !path.is_empty()) {
        writeln!(fs::OpenOptions::new().create(true).append(true).open(file).unwrap(), "{what}").unwrap();
    }
    None
}

#[tokio::test]
async fn as_process_1_it_leaves_no_ended_orphan_and_reports_the_deaths_of_its_children() {
    let Some(words) = as_process_1() else { return };
    let mut worker = Worker::behind(words);
    assert!(worker.run("orphans", json!({"count": 120}))["success"].is_object());
    until("no ended process is left", || worker.run("zombies", json!({}))["success"]["result"]["zombies"] == 0).await;
    let failure = worker.run("kill", json!({}))["failure"]["message"].to_string();
    assert!(failure.contains("it was killed by signal 9 (SIGKILL)"), "{failure}");
    assert!(worker.run("ok", json!({}))["success"].is_object());
    let unshare = worker.pid();
    let process_1 = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
    kill(Pid::from_raw(process_1.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(worker.process.wait().unwrap().code(), Some(0), "its end in order is process 1's");
}
