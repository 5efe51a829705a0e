//! A worker that nothing started with pipes, or with wrong ones.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

/// The only line of a worker that does not start.
fn said(pipes: Option<&[u8]>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-example-rust"));
    command.env_remove("TASKER_PIPES").envs(pipes.map(|pipes| ("TASKER_PIPES", OsStr::from_bytes(pipes))));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn without_pipes_it_says_how_it_is_started() {
    for pipes in [None, Some(&b""[..])] {
        let said = said(pipes);
        assert!(said.starts_with("error: this is a worker; start it with `tasker-ctl dev --worker"), "{said}");
    }
}

#[test]
fn wrong_pipes_end_it_with_one_sentence_that_names_them() {
    for pipes in [&b"3"[..], b"3,4,5", b"a,b", b" ", b"3,\xff", b"0,1", b"-1,-2", b"997,998", b"99999999999,4"] {
        assert_eq!(said(Some(pipes)), "error: TASKER_PIPES is wrong: expected the numbers of two open pipes, such as 3,4\n");
    }
}
