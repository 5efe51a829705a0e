//! Panics and last words of a process. The ignored tests are the processes.

#![allow(clippy::unwrap_used)]

use std::{
    panic::catch_unwind,
    process::{Command, Stdio},
};

use serde_json::Value;
use tasker_process::{LAST_WORDS, Stream, begin_logs, flush, say};

fn process(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .env_remove("TASKER_LOG")
        .env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
#[ignore = "a process of another test"]
fn panics_once() {
    begin_logs(Stream::Stderr, &[]).unwrap();
    catch_unwind(|| panic!("as planned")).unwrap_err();
    tracing::info!("the last line");
    flush(LAST_WORDS);
}

#[test]
#[ignore = "a process of another test"]
fn panics_and_speaks_a_lot() {
    begin_logs(Stream::Stderr, &[]).unwrap();
    for _ in 0..2_000 {
        catch_unwind(|| panic!("as planned")).unwrap_err();
        say(Stream::Stderr, &"x".repeat(100));
    }
    flush(LAST_WORDS);
}

#[test]
fn a_panic_is_a_log_line_at_every_level() {
    for (level, lines) in [("info", 2), ("off", 1)] {
        let output = process("panics_once").env("TASKER_LOG", level).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let logged: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((logged.len(), &logged[0]["message"]), (lines, &Value::from("a panic: as planned")), "{stderr}");
        assert!(logged[0]["place"].as_str().unwrap().contains("output.rs:"), "{stderr}");
    }
}

#[test]
fn panics_that_nobody_reads_hold_up_nothing() {
    let mut child = process("panics_and_speaks_a_lot").spawn().unwrap();
    assert!(child.wait().unwrap().success());
}
