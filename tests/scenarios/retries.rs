//! An operator's retry: the inputs and the checkpoint that the step gets.

use serde_json::{Value, json};
use tasker_engine::{OperatorAction, Precondition};
use tasker_wire::{Outcome, RunStep, TaskState};

use crate::rig::{Rig, by, permanent, raw, success, template};

async fn retry(rig: &Rig, run: &RunStep, inputs: Option<Value>) -> RunStep {
    let action = OperatorAction::RetryStep { inputs: inputs.and_then(raw) };
    rig.engine.operate((run.task_id, Some(run.step_id)), action, by("again"), Precondition::default()).await.unwrap();
    rig.check().await;
    rig.receive().await
}

/// The inputs and the cursor of the checkpoint in a message.
fn given(run: &RunStep) -> [Option<Value>; 2] {
    let value =
        |text: &Option<Box<serde_json::value::RawValue>>| text.as_ref().map(|text| serde_json::from_str(text.get()).unwrap());
    let cursor = value(&run.checkpoint).map(|checkpoint: Value| checkpoint["cursor"].clone());
    [value(&run.step_inputs), cursor]
}

#[tokio::test]
async fn new_inputs_are_in_the_message_and_drop_the_checkpoint_and_without_them_both_are_kept() {
    let rig = Rig::still().await;
    rig.register(&template("w", &[("a", &[])])).await;
    let task = rig.submit("w", json!({"n": 1})).await;
    let checkpoint =
        |cursor: i32| Outcome::Checkpoint { cursor: raw(json!(cursor)).unwrap(), items_processed: 1, accumulated: None };
    let fail_at = async |cursor: i32| {
        rig.answer(&rig.receive().await, checkpoint(cursor)).await;
        let run = rig.receive().await;
        rig.answer(&run, permanent("no")).await;
        run
    };
    let run = retry(&rig, &fail_at(40).await, None).await;
    assert_eq!(given(&run), [None, Some(json!(40))]);
    rig.answer(&run, permanent("no")).await;
    let run = retry(&rig, &run, Some(json!({"from": 50}))).await;
    assert_eq!((given(&run), run.attempt), ([Some(json!({"from": 50})), None], 1));
    assert_eq!(run.context.get(), r#"{"n":1}"#, "the task's own input is what it was");
    rig.answer(&run, checkpoint(60)).await;
    let run = rig.receive().await;
    rig.answer(&run, permanent("no")).await;
    let run = retry(&rig, &run, None).await;
    assert_eq!(given(&run), [Some(json!({"from": 50})), Some(json!(60))]);
    rig.answer(&run, success(json!(1))).await;
    assert_eq!(rig.state(task).await, TaskState::Complete);
    rig.check().await;
}
