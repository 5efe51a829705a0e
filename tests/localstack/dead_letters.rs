//! Dead letters, and how they are redriven.

use serde_json::{Value, json};

use crate::deployment::{Deployment, Options, emulator, order};

/// The output of a command, which must have succeeded.
fn stdout(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_message_in_a_batch_of_ten_is_the_only_dead_letter() {
    let Some(emulator) = emulator() else { return };
    let deployment = Deployment::deploy(emulator, Options::default()).await;
    let mut wishes: Vec<String> = (1..10).map(|n| order(&format!("O-{n}"), json!({})).to_string()).collect();
    wishes.insert(4, r#"{"name": "order_fulfillment", "namespace": "shop", "context": {"order_id": 7}}"#.into());
    deployment.send("intake", &wishes).await;
    let [dead_letter] = &deployment.dead_letters("intake", 1).await[..] else { panic!("one dead letter") };
    assert!(dead_letter.reason.as_ref().unwrap().contains("order_id"), "{dead_letter:?}");
    deployment.until_true("select count(*) = 9 and bool_and(state = 'complete') from tasker.tasks").await;

    // A malformed completion that still names its step opens a DLQ entry of the step.
    let task = deployment.submit(&order("O-20", json!({"work_ms": 2_000}))).await;
    let step =
        deployment.value(&format!("select task_id from tasker.steps where task_id = '{task}' and no = 16384")).await.unwrap();
    deployment
        .send("completions", &[json!({"v": 1, "task_id": step, "step_id": step, "outcome": {"nonsense": {}}}).to_string()])
        .await;
    deployment.dead_letters("completions", 1).await;
    let entry = "select reason || ' ' || reason_detail || ' ' || no from tasker.dlq_entries";
    assert_eq!(deployment.value(entry).await.as_deref(), Some("manual_dlq malformed_message 0"));
    assert_eq!(deployment.finished(&task).await["status"], "complete");
    deployment.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_is_noted_and_given_up_and_its_task_ends_after_it_was_sent_again() {
    let Some(emulator) = emulator() else { return };
    let set = ["queues.completions.visibility_seconds=2", "queues.completions.max_receive_count=3"];
    let deployment = Deployment::deploy(emulator, Options { set: &set, ..Options::default() }).await;
    for mechanism in ["move", "copy"] {
        // Handling a completion that contains this text panics.
        deployment.arm("panic", &format!("POISON-{mechanism}"));
        let poisoned = deployment.submit(&order(&format!("POISON-{mechanism}"), json!({}))).await;
        let healthy = deployment.submit(&order(&format!("fine-{mechanism}"), json!({}))).await;
        assert_eq!(deployment.finished(&healthy).await["status"], "complete", "a neighbour goes on");
        let dead_letters = deployment.dead_letters("completions", 1).await;
        assert!(dead_letters[0].body.contains("POISON"), "{dead_letters:?}");
        let open = format!("select reason_detail || ' ' || status from tasker.dlq_entries where task_id = '{poisoned}'");
        assert_eq!(deployment.value(&open).await.as_deref(), Some("poison_message pending"));

        deployment.disarm("panic");
        // This test has received it, so it is hidden for a moment.
        let listed = deployment.until("the dead letter is listed", || async {
            Some(stdout(&deployment.ctl(&["dlq", "list"]))).filter(|listed| listed.contains("CompleteStep"))
        });
        let listed = listed.await;
        assert!(listed.contains("completions"), "{listed}");
        let dry = stdout(&deployment.ctl(&[
            "dlq",
            "redrive",
            "--queue",
            &format!("{}-completions-dlq", deployment.prefix),
            "--dry-run",
        ]));
        assert!(dry.contains(&poisoned), "{dry}");
        assert_eq!(
            deployment.value(&format!("select state from tasker.tasks where task_id = '{poisoned}'")).await.as_deref(),
            Some("running")
        );
        let queue = format!("{}-completions-dlq", deployment.prefix);
        let sent = stdout(&deployment.ctl(&["dlq", "redrive", "--queue", &queue, "--mechanism", mechanism]));
        assert!(sent.contains(mechanism) || sent.contains("StartMessageMoveTask"), "{sent}");
        assert_eq!(deployment.finished(&poisoned).await["status"], "complete");
        deployment.sweep().await;
        assert_eq!(
            deployment.value(&open).await.as_deref(),
            Some("poison_message manually_resolved"),
            "the sweep closes what has moved on"
        );
        let again = deployment.ctl(&["dlq", "redrive", "--queue", &queue, "--mechanism", mechanism]);
        assert!(again.status.success(), "nothing to do is no fault: {again:?}");
        assert_eq!(deployment.depth("completions-dlq").await, 0);
    }
    let queues: Value = serde_json::from_str(&stdout(&deployment.ctl(&["queues", "-o", "json"]))).unwrap();
    assert!(queues.to_string().contains("completions"), "{queues}");
    deployment.check().await;
}
