//! Messages that are given up, and how they come back.

use serde_json::{Value, json};

use crate::cell::{Cell, Options, emulator, order};

/// What a command said, which must have succeeded.
fn stdout(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_messages_with_a_malformed_one_nine_are_done_and_one_is_a_letter_with_its_reason() {
    let Some(emulator) = emulator() else { return };
    let cell = Cell::deploy(emulator, Options::default()).await;
    let mut wishes: Vec<String> = (1..10).map(|n| order(&format!("O-{n}"), json!({})).to_string()).collect();
    wishes.insert(4, r#"{"name": "order_fulfillment", "namespace": "shop", "context": {"order_id": 7}}"#.into());
    cell.send("intake", &wishes).await;
    let [letter] = &cell.letters("intake", 1).await[..] else { panic!("one letter") };
    assert!(letter.reason.as_ref().unwrap().contains("order_id"), "{letter:?}");
    cell.until_true("select count(*) = 9 and bool_and(state = 'complete') from tasker.tasks").await;

    // A completion that says which step it is about, and nothing else of use, is noted with the step.
    let task = cell.submit(&order("O-20", json!({"work_ms": 2_000}))).await;
    let step = cell.value(&format!("select task_id from tasker.steps where task_id = '{task}' and no = 16384")).await.unwrap();
    cell.send("completions", &[json!({"v": 1, "task_id": step, "step_id": step, "outcome": {"nonsense": {}}}).to_string()]).await;
    cell.letters("completions", 1).await;
    let entry = "select reason || ' ' || reason_detail || ' ' || no from tasker.dlq_entries";
    assert_eq!(cell.value(entry).await.as_deref(), Some("manual_dlq malformed_message 0"));
    assert_eq!(cell.finished(&task).await["status"], "complete");
    cell.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_is_noted_and_given_up_and_its_task_ends_after_it_was_sent_again() {
    let Some(emulator) = emulator() else { return };
    let set = ["queues.completions.visibility_seconds=2", "queues.completions.max_receive_count=3"];
    let cell = Cell::deploy(emulator, Options { set: &set, ..Options::default() }).await;
    for mechanism in ["move", "copy"] {
        // The handling of completions that hold this panics.
        cell.arm("panic", &format!("POISON-{mechanism}"));
        let poisoned = cell.submit(&order(&format!("POISON-{mechanism}"), json!({}))).await;
        let healthy = cell.submit(&order(&format!("fine-{mechanism}"), json!({}))).await;
        assert_eq!(cell.finished(&healthy).await["status"], "complete", "a neighbour goes on");
        let letters = cell.letters("completions", 1).await;
        assert!(letters[0].body.contains("POISON"), "{letters:?}");
        let open = format!("select reason_detail || ' ' || status from tasker.dlq_entries where task_id = '{poisoned}'");
        assert_eq!(cell.value(&open).await.as_deref(), Some("poison_message pending"));

        cell.disarm("panic");
        // This test has looked at it itself, and so it is hidden for a moment.
        let listed = cell.until("the letter is listed", || async {
            Some(stdout(&cell.ctl(&["dlq", "list"]))).filter(|listed| listed.contains("CompleteStep"))
        });
        let listed = listed.await;
        assert!(listed.contains("completions"), "{listed}");
        let dry = stdout(&cell.ctl(&["dlq", "redrive", "--queue", &format!("{}-completions-dlq", cell.prefix), "--dry-run"]));
        assert!(dry.contains(&poisoned), "{dry}");
        assert_eq!(
            cell.value(&format!("select state from tasker.tasks where task_id = '{poisoned}'")).await.as_deref(),
            Some("running")
        );
        let queue = format!("{}-completions-dlq", cell.prefix);
        let sent = stdout(&cell.ctl(&["dlq", "redrive", "--queue", &queue, "--mechanism", mechanism]));
        assert!(sent.contains(mechanism) || sent.contains("StartMessageMoveTask"), "{sent}");
        assert_eq!(cell.finished(&poisoned).await["status"], "complete");
        cell.sweep().await;
        assert_eq!(
            cell.value(&open).await.as_deref(),
            Some("poison_message manually_resolved"),
            "the sweep closes what has moved on"
        );
        let again = cell.ctl(&["dlq", "redrive", "--queue", &queue, "--mechanism", mechanism]);
        assert!(again.status.success(), "nothing to do is no fault: {again:?}");
        assert_eq!(cell.depth("completions-dlq").await, 0);
    }
    let queues: Value = serde_json::from_str(&stdout(&cell.ctl(&["queues", "-o", "json"]))).unwrap();
    assert!(queues.to_string().contains("completions"), "{queues}");
    cell.check().await;
}
