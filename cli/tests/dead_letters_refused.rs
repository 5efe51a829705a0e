//! What `dlq` and `queues` refuse before they ask a queue, and what they say when no SQS answers.

#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use tokio::process::Command;

const QUEUES: &str = "http://127.0.0.1:4566/000000000000/tasker-";

/// Exit code and words of a run against an SQS that is not there.
async fn run(line: &str) -> (i32, String) {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasker-ctl"));
    command.args(line.split(' ')).env_remove("TASKER_QUEUES").env("AWS_ENDPOINT_URL", format!("http://{free}"));
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test").env("AWS_REGION", "us-east-1");
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{line}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn an_empty_filter_is_refused_with_the_filters_there_are() {
    for line in ["dlq redrive", "dlq redrive --dry-run", "dlq redrive --max 3 --mechanism copy", "dlq purge --yes"] {
        let (code, said) = run(&format!("{line} --queues {QUEUES}")).await;
        assert_eq!(code, 2, "{said}");
        assert!(
            said.starts_with("error: no dead letters are selected: give one or more of ") && said.contains("--fingerprint"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[tokio::test]
async fn a_purge_needs_a_yes_or_a_dry_run() {
    let (code, said) = run(&format!("dlq purge --queue intake --queues {QUEUES}")).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("error: nothing was deleted: give --dry-run ") && said.contains("--yes"), "{said}");
}

#[tokio::test]
async fn only_a_whole_queue_is_moved() {
    for line in ["--queue intake --older-than 1h", "--queue intake --max 3", "--task 01990000-0000-7000-8000-000000000000"] {
        let (code, said) = run(&format!("dlq redrive --mechanism move {line} --queues {QUEUES}")).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.starts_with("error: --mechanism move takes all dead letters of one queue: "), "{said}");
    }
}

#[tokio::test]
async fn invalid_options_are_usage_errors() {
    for line in [
        "dlq redrive --task x",
        "dlq redrive --older-than 1",
        "dlq redrive --fingerprint xyz",
        "dlq redrive --queue a --rate 0",
        "dlq redrive --queue a --rate 501",
        "dlq redrive --queue a --mechanism carrier-pigeon",
        "dlq purge --queue a --yes --dry-run",
        "dlq list --max 0",
    ] {
        assert_eq!(run(line).await.0, 2, "{line}");
    }
}

#[tokio::test]
async fn a_missing_or_wrong_deployment_is_reported_in_one_sentence() {
    for line in
        ["queues", "dlq list --messages", "dlq show x --messages", "dlq redrive --queue a", "dlq purge --queue a --dry-run"]
    {
        let (code, said) = run(line).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.starts_with("error: no deployment is named: give --queues or TASKER_QUEUES, "), "{said}");
        let (code, said) = run(&format!("{line} --queues tasker-")).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.starts_with("error: --queues is wrong: ") && said.ends_with("not `tasker-`\n"), "{said}");
    }
}

#[tokio::test]
async fn an_unreachable_sqs_is_reported_with_the_settings_to_check() {
    for line in ["queues", "dlq list"] {
        let (code, said) = run(&format!("{line} --queues {QUEUES}")).await;
        assert_eq!(code, 1, "{said}");
        assert!(said.starts_with("error: cannot list the queues, because SQS did not answer: "), "{said}");
        assert!(said.contains("AWS_ENDPOINT_URL") && said.lines().count() == 1, "{said}");
    }
}
