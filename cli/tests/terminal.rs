//! The program on a terminal, in a script and in a pipe. Python's pty module makes the terminals.

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Output, Stdio},
};

use axum::{Json, Router, extract::Request};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

const TASK: &str = "01990000-0000-7000-8000-000000000000";
const STEP: &str = "charge_the_card_of_the_customer_again";
const TEMPLATE: &str = "nightly_reconciliation_of_accounts";
/// The note of the step.
const NOTE: &str = "declined: the bank answers that it has no time today and asks us to come back tomorrow or later";

/// Runs a command on a terminal of so many columns, and copies what the terminal shows.
const ON_TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
while True:
    try:
        shown = os.read(terminal, 65536)
    except OSError:
        break
    sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A server with one task, which never ends if it is asked to wait, and with one template.
async fn server() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(|request: Request| async move { Json(answer(request.uri().path())) });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn answer(path: &str) -> Value {
    let task = json!({"task_uuid": TASK, "name": TEMPLATE, "namespace": "finance_department", "version": "1.0.0",
        "status": "running", "total_steps": 1, "created_at": "2026-01-02T03:04:05Z"});
    match path.rsplit('/').next().unwrap() {
        "workflow_steps" => json!([{"step_uuid": TASK, "task_uuid": TASK, "name": STEP, "current_state": "error", "attempts": 3,
            "max_attempts": 3, "last_attempted_at": "2026-01-02T03:04:05Z",
            "results": {"error": {"message": NOTE.strip_prefix("declined: "), "error_type": "declined"}}}]),
        "templates" => json!({"templates": [{"name": TEMPLATE, "namespace": "finance_department", "version": "1.0.0",
            "step_count": 1, "description": NOTE}], "namespaces": [], "total_count": 1}),
        "tasks" => json!({"tasks": vec![task.clone(); 30], "pagination": {"page": 1, "total_pages": 1, "total_count": 30},
            "task_uuid": TASK, "name": TEMPLATE, "namespace": "finance_department", "version": "1.0.0", "total_steps": 1,
            "status": "running", "created_at": ""}),
        _ => task,
    }
}

fn program(url: &str, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
    command.args(arguments.split(' ')).env("TASKER_URL", url).stdin(Stdio::null());
    command
}

/// What a terminal of so many columns shows of a command.
fn shown(url: &str, columns: usize, variables: &[(&str, &str)], arguments: &str) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", ON_TERMINAL, &columns.to_string(), env!("CARGO_BIN_EXE_tasker-ctl")]).args(arguments.split(' '));
    command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("TASKER_URL", url).envs(variables.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_names_are_never_cut_on_a_narrow_terminal() {
    let url = server().await;
    for columns in [40, 80, 120, 200] {
        for (arguments, whole) in [
            ("task list", &[TASK, TEMPLATE, "finance_department", "2026-01-02 03:04:05Z"][..]),
            (&format!("task steps {TASK}"), &[STEP, "3/3", "2026-01-02 03:04:05Z"]),
            (&format!("task get {TASK}"), &[TASK, STEP]),
            ("template list", &[TEMPLATE, "finance_department", "1.0.0"]),
        ] {
            let shown = shown(&url, columns, &[], arguments);
            for word in whole {
                assert!(shown.lines().any(|line| line.contains(word)), "{word} is cut at {columns} columns:\n{shown}");
            }
        }
        // Lists stay within the terminal, except for sentences that have a line of their own.
        let shown = shown(&url, columns, &[], "task list");
        let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns, "{widest} of {columns} columns:\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_is_wrapped_on_a_terminal_and_whole_elsewhere() {
    let url = server().await;
    let narrow = shown(&url, 120, &[], "template list");
    assert!(narrow.lines().count() > 2 && narrow.lines().all(|line| line.chars().count() <= 120), "{narrow}");
    let piped = String::from_utf8(program(&url, "template list").output().unwrap().stdout).unwrap();
    assert_eq!(piped.lines().count(), 2, "{piped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_color_and_a_dumb_terminal_mean_no_control_sequence() {
    let url = server().await;
    let wait = format!("task wait {TASK} --timeout 1.5");
    let plain: [&[_]; 3] = [&[("NO_COLOR", "1")], &[("TERM", "dumb")], &[("TERM", "dumb"), ("CI", "true"), ("CLICOLOR", "1")]];
    for arguments in [&wait, "--help", "task --no-such-flag"] {
        assert!(
            shown(&url, 80, &[("NO_COLOR", "")], arguments).contains('\u{1b}'),
            "{arguments} shows that the test tests something"
        );
        for variables in plain {
            let shown = shown(&url, 80, variables, arguments);
            assert!(!shown.contains('\u{1b}') && !shown.is_empty(), "{variables:?} {arguments}: {shown:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stderr_that_is_no_terminal_gets_no_progress_although_stdout_is_one() {
    let url = server().await;
    let folder = tempfile::tempdir().unwrap();
    let (script, file) = (folder.path().join("run"), folder.path().join("stderr"));
    let line = format!("{} task wait {TASK} --timeout 1.5 2>{}", env!("CARGO_BIN_EXE_tasker-ctl"), file.display());
    std::fs::write(&script, line).unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", ON_TERMINAL, "80", "sh"]).arg(script).env("TERM", "xterm-256color").env("TASKER_URL", &url);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let said = std::fs::read_to_string(file).unwrap();
    assert!(said.starts_with("error: task") && !said.contains('\u{1b}'), "{said}");
}

fn first_line_on_stderr(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_created_task_is_said_before_the_wait_in_both_formats() {
    let url = server().await;
    for (format, signal) in [("table", Signal::SIGINT), ("json", Signal::SIGTERM)] {
        let arguments = format!("task create --name {TEMPLATE} --wait -o {format}");
        let mut child = program(&url, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = first_line_on_stderr(&mut child);
        match format {
            "json" => assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({ "task_uuid": TASK })),
            _ => assert_eq!(said, format!("task {TASK}: {TEMPLATE} 1.0.0 in finance_department, 1 step\n")),
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let Output { status, stdout, .. } = child.wait_with_output().unwrap();
        assert_eq!((status.signal(), stdout), (Some(signal as i32), Vec::new()), "stdout has the result or nothing");
    }
    let late = program(&url, &format!("task create --name {TEMPLATE} --wait=0.1 -o json")).output().unwrap();
    assert_eq!((late.status.code(), late.stdout.len()), (Some(6), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let url = server().await;
    for format in ["table", "json"] {
        let mut child =
            program(&url, &format!("task list -o {format}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // As `head -1` that has ended.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    }
}
