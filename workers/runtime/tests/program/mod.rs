//! The program `tasker-worker --stdio`, as a process.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;
use tasker_wire::RunStep;

use crate::common::python;

pub struct Program {
    pub process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
        Self::of(command.args(arguments).args(["--stdio", "--"]).args(python("steps.py").split(' ')))
    }

    pub fn of(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take().unwrap());
        Self { process, stdin, stdout: BufReader::new(stdout) }
    }

    pub fn send(&mut self, step: &RunStep) {
        self.send_line(&serde_json::to_string(step).unwrap());
    }

    pub fn send_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.process.id() as i32), signal).unwrap();
    }

    /// Waits for a line of its log. The rest of the log is not read any more.
    pub fn logged(&mut self, text: &str) {
        let mut lines = BufReader::new(self.process.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(text)), "it never said: {text}");
        std::thread::spawn(move || lines.for_each(drop));
    }

    pub fn end(mut self) -> Output {
        drop(self.stdin.take());
        self.process.wait_with_output().unwrap()
    }
}
