//! `tasker-worker --poll`.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;
mod deployed;

use common::{runs, step, until};
use deployed::{Aws, Program, message, raw_message};
use serde_json::{Value, json};
use tasker_wire::Outcome;
use tempfile::TempDir;

fn holds(call: &Value, text: &str) -> bool {
    call.to_string().contains(text)
}

#[tokio::test]
async fn a_message_is_deleted_only_when_its_outcome_was_accepted() {
    let aws = Aws::start().await;
    let _worker = Program::polling(&aws, &[]);
    aws.refuse(Some("token 0"));
    aws.put([step(0, "ok", json!({})), step(1, "ok", json!({}))].iter().map(message));
    aws.call("DeleteMessageBatch", |call| holds(call, "receipt of m1")).await;
    aws.call("SendMessageBatch", |call| holds(call, "token 0")).await;
    assert!(aws.calls("DeleteMessageBatch").iter().all(|call| !holds(call, "receipt of m0")));
    aws.refuse(None);
    aws.call("DeleteMessageBatch", |call| holds(call, "receipt of m0")).await;
    assert!(matches!(aws.outcome(0), Outcome::Success { .. }));
}

#[tokio::test]
async fn the_message_of_a_long_step_is_extended_by_the_queues_visibility_timeout() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _worker = Program::polling(&aws, &[]);
    let gate = folder.path().join("gate");
    aws.put([message(&step(0, "wait", json!({ "gate": gate })))]);
    let kept = aws.call("ChangeMessageVisibilityBatch", |call| holds(call, "receipt of m0")).await;
    assert_eq!(kept["Entries"][0]["VisibilityTimeout"], 3);
    std::fs::write(&gate, "").unwrap();
    aws.call("DeleteMessageBatch", |call| holds(call, "receipt of m0")).await;
}

#[tokio::test]
async fn no_more_is_received_than_there_are_free_places() {
    let aws = Aws::start().await;
    let _worker = Program::polling(&aws, &["--max-concurrent-handlers", "2"]);
    aws.put((0..9).map(|no| message(&step(no, "ok", json!({})))));
    for no in 0..9 {
        aws.call("DeleteMessageBatch", |call| holds(call, &format!("receipt of m{no}"))).await;
    }
    assert_eq!(aws.most_in_hand(), 2);
}

#[tokio::test]
async fn sigterm_drains_running_steps_and_makes_all_other_messages_visible_immediately() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let worker = Program::polling(&aws, &["--drain-timeout", "2"]);
    let (notes, gate) = (folder.path().join("runs"), folder.path().join("gate"));
    aws.put([
        message(&step(0, "wait", json!({ "runs": notes, "gate": gate }))),
        message(&step(1, "hang", json!({ "runs": notes }))),
    ]);
    until("both run", || runs(&notes).len() == 2).await;
    worker.terminate();
    worker.says("waiting at most").await;
    aws.put([message(&step(2, "ok", json!({ "runs": notes }))), raw_message("newer", r#"{"v": 3}"#)]);
    std::fs::write(&gate, "").unwrap();
    let (status, lines) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    assert!(matches!(aws.outcome(0), Outcome::Success { .. }));
    assert!(aws.calls("DeleteMessageBatch").iter().any(|call| holds(call, "receipt of m0")));
    for id in ["m1", "m2", "newer"] {
        assert_eq!(aws.hidden_for(id).last(), Some(&0), "{id}");
        assert!(aws.calls("DeleteMessageBatch").iter().all(|call| !holds(call, &format!("receipt of {id}"))));
    }
    assert_eq!(runs(&notes).len(), 2, "what came too late is not run");
}

#[tokio::test]
async fn one_dispatch_in_two_messages_is_run_once_and_both_are_deleted() {
    let (aws, folder) = (Aws::start().await, TempDir::new().unwrap());
    let _worker = Program::polling(&aws, &[]);
    let notes = folder.path().join("runs");
    let text = serde_json::to_string(&step(0, "ok", json!({ "runs": notes }))).unwrap();
    aws.put([raw_message("a", &text), raw_message("b", &text)]);
    for id in ["a", "b"] {
        aws.call("DeleteMessageBatch", |call| holds(call, &format!("receipt of {id}"))).await;
    }
    assert_eq!(runs(&notes).len(), 1);
}

#[tokio::test]
async fn a_malformed_message_is_dead_lettered_and_one_of_another_version_is_retried() {
    let aws = Aws::start().await;
    aws.refuse(Some("stubborn"));
    let _worker = Program::polling(&aws, &[]);
    let of_no_use = [("newer", r#"{"v": 3}"#), ("gone", "nonsense"), ("kept", "stubborn nonsense")];
    aws.put(of_no_use.map(|(id, text)| raw_message(id, text)).into_iter().chain([message(&step(0, "ok", json!({})))]));
    aws.call("DeleteMessageBatch", |call| holds(call, "receipt of gone")).await;
    aws.call("DeleteMessageBatch", |call| holds(call, "receipt of m0")).await;
    assert!(aws.calls("SendMessage").iter().all(|call| !holds(call, "receipt of newer") && !holds(call, r#"{\"v\": 2}"#)));
    for id in ["newer", "kept"] {
        aws.call("ChangeMessageVisibilityBatch", |call| holds(call, &format!("receipt of {id}"))).await;
        assert_eq!(aws.hidden_for(id), [2]);
        assert!(aws.calls("DeleteMessageBatch").iter().all(|call| !holds(call, &format!("receipt of {id}"))));
    }
}
