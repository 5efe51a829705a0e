//! The program `tasker-worker --stdio`, as a process.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
mod program;

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use common::{python, runs, step, until};
use nix::sys::signal::Signal;
use program::Program;
use serde_json::{Value, json};
use tasker_wire::RunStep;

#[test]
fn steps_come_on_stdin_and_outcomes_go_to_stdout_until_stdin_ends() {
    let mut program = Program::start(&["--pool", "shop", "--max-concurrent-handlers", "2"]);
    for no in 0..5 {
        program.send(&step(no, "ok", json!({})));
    }
    let mut answered: Vec<Value> = (0..5).map(|_| program.receive()).collect();
    answered.sort_by_key(|answer| answer["token"].to_string());
    assert_eq!(answered[3]["token"], "token 3");
    assert_eq!(answered[3]["outcome"], json!({"success": {"result": {"attempt": 1}}}));
    assert!(answered[3]["worker"].as_str().unwrap().starts_with("shop/"));
    let output = program.end();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_line_that_is_no_step_is_told_and_the_others_run() {
    let mut program = Program::start(&[]);
    program.send_line("nonsense");
    program.send_line(&serde_json::to_string(&RunStep { v: 3, ..step(0, "ok", json!({})) }).unwrap());
    program.send(&step(1, "ok", json!({})));
    assert_eq!(program.receive()["token"], "token 1");
    let output = program.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("2 lines of stdin were not steps"), "{stderr}");
}

#[test]
fn a_worker_that_cannot_start_is_one_sentence_and_an_error_code() {
    let output = Command::new(env!("CARGO_BIN_EXE_tasker-worker")).args(["--stdio", "--", "no-such-program"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("error: worker default: the program of `no-such-program` was not found")
    );
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    let output = wrong.env("TASKER_LOG", "inof").args(["--stdio", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = "error: TASKER_LOG is wrong: expected levels, as debug or info,tasker_engine=debug\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), told);
    let usage = Command::new(env!("CARGO_BIN_EXE_tasker-worker")).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_worker_does_not_inherit_the_database_s_address_unless_its_command_names_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    command.args(["--stdio", "--", "TASKER_DATABASE_URL=mine"]).args(python("steps.py").split(' '));
    let names = ["DATABASE_URL", "TASKER_DATABASE_URL", "TASKER_TEST_DATABASE_URL", "OTHER"];
    let mut program = Program::of(command.envs(names.map(|name| (name, "inherited"))));
    program.send(&step(0, "environment", json!({ "names": names })));
    assert_eq!(
        program.receive()["outcome"]["success"]["result"],
        json!({
            "DATABASE_URL": null, "TASKER_DATABASE_URL": "mine", "TASKER_TEST_DATABASE_URL": null, "OTHER": "inherited",
        })
    );
    program.end();
}

#[test]
fn log_lines_of_deaths_and_time_outs_name_the_steps() {
    let mut program = Program::start(&[]);
    let late = RunStep { timeout_seconds: 1, ..step(1, "hang", json!({})) };
    let [died, late] = [step(0, "exit", json!({})), late].map(|step| {
        let step = RunStep { attempt: 2, ..step };
        program.send(&step);
        program.receive();
        let RunStep { task_id, step_name, correlation_id, .. } = step;
        json!({"task_id": task_id, "step": step_name, "attempt": "2", "correlation_id": correlation_id})
    });
    let output = program.end();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines = |what: &str, fields: &Value| {
        let logged = stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let fits = |line: &Value| fields.as_object().unwrap().iter().all(|(name, value)| &line[name] == value);
        logged.filter(|line| line["message"].as_str().unwrap().contains(what) && fits(line)).count()
    };
    assert_eq!(lines("the child process died", &died), 3, "{stderr}");
    assert_eq!(lines("exceeded its timeout", &late), 1, "{stderr}");
}

#[tokio::test]
async fn sigterm_drains_what_runs() {
    let folder = tempfile::TempDir::new().unwrap();
    let (notes, gate) = (folder.path().join("runs"), folder.path().join("gate"));
    let mut program = Program::start(&[]);
    program.send(&step(0, "wait", json!({ "runs": notes, "gate": gate })));
    until("it runs", || runs(&notes).len() == 1).await;
    program.signal(Signal::SIGTERM);
    let mut log = BufReader::new(program.process.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(log.any(|line| line.contains("waiting at most 25 s for 1 running steps")));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(program.receive()["outcome"]["success"]["result"], json!({"waited": true}));
    // Its stdin stays open: it ends by the signal alone.
    assert_eq!(program.process.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_and_its_child_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let notes = folder.path().join("runs");
    let mut program = Program::start(&[]);
    program.send(&step(0, "hang", json!({ "runs": notes })));
    until("it hangs", || runs(&notes).len() == 1).await;
    let pid = runs(&notes)[0].1;
    let mut log = BufReader::new(program.process.stderr.take().unwrap()).lines().map(Result::unwrap);
    program.signal(Signal::SIGHUP);
    assert!(log.any(|line| line.contains("waiting at most 25 s for 1 running steps")));
    program.signal(Signal::SIGTERM);
    assert!(log.any(|line| line.contains("a second signal ends this worker")));
    assert_eq!(program.process.wait().unwrap().code(), Some(1));
    until("the child is gone", || !common::is_alive(pid)).await;
}

#[tokio::test]
async fn kill_9_of_the_worker_leaves_no_child_even_if_a_handler_hangs() {
    let folder = tempfile::TempDir::new().unwrap();
    let notes = folder.path().join("runs");
    let mut program = Program::start(&[]);
    program.send(&step(0, "hang", json!({ "runs": notes })));
    until("it hangs", || runs(&notes).len() == 1).await;
    let pid = runs(&notes)[0].1;
    assert!(common::is_alive(pid));
    program.signal(Signal::SIGKILL);
    until("the child is gone", || !common::is_alive(pid)).await;
    program.end();
}

/// A worker whose command needs a while until it is ready, where it may need a second.
fn slow(how: &str, seconds: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    command.env("TASKER_READY_TIMEOUT_SECONDS", "1").args(["--stdio", "--"]).args(python("slow.py").split(' '));
    command.args([how, seconds]);
    command
}

#[test]
fn a_worker_that_computes_or_writes_is_waited_for_beyond_its_time() {
    for how in ["computes", "writes"] {
        let mut program = Program::of(&mut slow(how, "4"));
        program.send(&step(0, "any", json!({})));
        assert!(program.receive()["outcome"]["success"].is_object());
        assert_eq!(program.end().status.code(), Some(0));
    }
}

#[test]
fn a_worker_that_does_nothing_or_works_for_ever_is_given_up() {
    for (how, seconds, said) in [("sleeps", "60", "does nothing"), ("computes", "60", "within 10")] {
        let output = slow(how, seconds).stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("was not ready within") && stderr.contains(said), "{how}: {stderr}");
        assert!(stderr.contains("raise --ready-timeout"), "{stderr}");
        assert_eq!(stderr.contains("waiting until the worker is ready"), how == "computes", "{stderr}");
    }
}

#[test]
fn the_time_until_a_worker_must_be_ready_is_a_setting() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    command.args(["--ready-timeout", "60", "--stdio", "--"]).args(python("slow.py").split(' ')).args(["sleeps", "3"]);
    let mut program = Program::of(command.env("TASKER_READY_TIMEOUT_SECONDS", "1"));
    program.send(&step(0, "any", json!({})));
    assert!(program.receive()["outcome"]["success"].is_object());
    program.end();
}

#[tokio::test]
async fn a_signal_ends_a_worker_that_is_not_ready() {
    let folder = tempfile::TempDir::new().unwrap();
    let began = folder.path().join("began");
    let script = format!("touch {}; exec sleep 3600", began.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    let mut program = Program::of(command.args(["--ready-timeout", "3600", "--stdio", "--", "sh", "-c", &script]));
    until("it starts", || began.exists()).await;
    program.signal(Signal::SIGTERM);
    assert_eq!(program.process.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_crash_loop_says_how_often_why_and_when_it_is_tried_again_and_steps_wait() {
    let folder = tempfile::TempDir::new().unwrap();
    let broken = folder.path().join("broken");
    // The process ends soon after it is ready, or is not even ready, as long as it is broken.
    let script =
        format!("if [ -e {0} ]; then echo the disk is full >&2; exit 9; fi; exec {1}", broken.display(), python("steps.py"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    let mut program = Program::of(command.args(["--stdio", "--", "sh", "-c", &script]));
    let notes = folder.path().join("runs");
    program.send(&step(0, "ok", json!({ "runs": notes })));
    program.receive();
    std::fs::write(&broken, "").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(runs(&notes)[0].1), Signal::SIGKILL).unwrap();
    let log = BufReader::new(program.process.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut log = log.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let line = log.find(|line| line["times"] == 3).unwrap();
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("3 times in a row before it had a step"), "{message}");
    assert!(message.contains("exited with status 9") && message.contains("the disk is full"), "{message}");
    assert!(message.contains("started again in 800 ms"), "{message}");
    std::thread::spawn(move || log.for_each(drop));
    program.send(&step(1, "ok", json!({ "runs": notes })));
    std::fs::remove_file(&broken).unwrap();
    let answer = program.receive();
    assert_eq!((&answer["attempt"], &answer["outcome"]["success"]["result"]), (&json!(1), &json!({"attempt": 1})));
    program.end();
}
