//! How a deployed `tasker-worker` starts, or says why not.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
mod deployed;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use deployed::{Aws, Program};

/// The only sentence of a program that does not start.
async fn said(flags: &[&str], settings: &[(&str, &str)]) -> String {
    let aws = Aws::start().await;
    let (status, lines) = Program::with(&aws, flags, settings).ended().await;
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    let [line] = &lines[..] else { panic!("more than a sentence: {lines:#?}") };
    assert_eq!(line["level"], "ERROR");
    line["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_setting_that_is_missing_or_wrong_ends_it_with_one_sentence_that_names_it() {
    for (name, value, sentence) in [
        ("TASKER_QUEUES", "", "TASKER_QUEUES is not set: give the prefix of the URLs of the deployment's queues"),
        ("TASKER_QUEUES", "nowhere", "TASKER_QUEUES is wrong: expected a URL"),
        (
            "TASKER_READY_TIMEOUT_SECONDS",
            "0",
            "TASKER_READY_TIMEOUT_SECONDS is wrong: expected the seconds until the worker must be ready, from 1 to 3600, not 0",
        ),
        ("TASKER_LOG", "inof", "TASKER_LOG is wrong: expected levels, as debug or info,tasker_engine=debug"),
        ("TASKER_POOL", "", "TASKER_POOL is not set: give the name of the pool that this worker serves"),
        ("TASKER_POOL", "a pool", "TASKER_POOL is wrong: worker-a pool is not a valid queue name"),
        (
            "TASKER_MAX_CONCURRENT_HANDLERS",
            "many",
            "TASKER_MAX_CONCURRENT_HANDLERS is wrong: expected the number of concurrent steps",
        ),
        (
            "TASKER_MAX_CONCURRENT_HANDLERS",
            "1001",
            "TASKER_MAX_CONCURRENT_HANDLERS is wrong: expected the number of concurrent steps",
        ),
        (
            "TASKER_MAX_CONCURRENT_HANDLERS",
            "0",
            "TASKER_MAX_CONCURRENT_HANDLERS is wrong: expected the number of concurrent steps",
        ),
    ] {
        for flags in [&[][..], &["--poll"]] {
            let told = said(flags, &[(name, value)]).await;
            assert!(told.starts_with(sentence), "{told}");
        }
    }
}

#[test]
fn a_name_of_its_instance_that_is_no_text_ends_it_with_one_sentence_that_names_it() {
    for name in ["AWS_LAMBDA_LOG_STREAM_NAME", "HOSTNAME"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
        command.env_clear().env(name, OsStr::from_bytes(b"\xff"));
        command.envs([("TASKER_QUEUES", "https://sqs.example/123/t-"), ("TASKER_POOL", "shop")]);
        let output = command.args(["--poll", "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["message"], format!("{name} is wrong: expected text in UTF-8"));
    }
}

#[tokio::test]
async fn the_timeout_setting_is_required_on_lambda_and_not_used_when_polling() {
    let what = "the function's timeout in seconds, from 1 to 900";
    assert_eq!(said(&[], &[("TASKER_TIMEOUT_SECONDS", "")]).await, format!("TASKER_TIMEOUT_SECONDS is not set: give {what}"));
    for wrong in ["0", "901", "a minute"] {
        let told = said(&[], &[("TASKER_TIMEOUT_SECONDS", wrong)]).await;
        assert!(told.starts_with(&format!("TASKER_TIMEOUT_SECONDS is wrong: expected {what}")), "{told}");
    }
    let aws = Aws::start().await;
    let worker = Program::with(&aws, &["--poll"], &[("TASKER_TIMEOUT_SECONDS", "")]);
    worker.says("worker ready").await;
}

#[tokio::test]
async fn without_lambda_and_without_a_mode_it_says_which_modes_there_are() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tasker-worker"));
    let output = command.env_remove("AWS_LAMBDA_RUNTIME_API").args(["--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("give --stdio or --poll"), "{stderr}");
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_is_told_with_the_settings_that_name_it() {
    let aws = Aws::start().await;
    let settings = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    let (status, lines) = Program::with(&aws, &["--poll"], &settings).ended().await;
    assert_eq!(status.code(), Some(1));
    let told = lines.last().unwrap()["message"].as_str().unwrap();
    assert!(told.contains("t-worker-shop cannot be read; check TASKER_QUEUES, TASKER_POOL"), "{told}");
}
