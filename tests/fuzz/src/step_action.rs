//! Operator actions: bodies of `PATCH` on a step and `DELETE` on a task, of `POST` on actions, of pauses, and those about DLQ entries.

use tasker_domain::{
    action::{
        GivenResult, StepOperation, StepVerb, parse_cancellation, parse_pause, parse_step_action, parse_step_operation,
        parse_task_action,
    },
    dlq::{parse_investigation, parse_recover},
    json,
};

use super::places;

/// Parsing depends on the body only. A result that is accepted was checked, and is unchanged.
pub fn run(data: &[u8]) {
    let parsed = parse_step_action(data);
    assert_eq!(format!("{parsed:?}"), format!("{:?}", parse_step_action(data)), "the parser changed its mind");
    let cancellation = parse_cancellation(data);
    assert_eq!(cancellation, parse_cancellation(data), "the parser changed its mind");
    let (of_task, of_step, pause) = (parse_task_action(data), parse_step_operation(data), parse_pause(data));
    assert_eq!(format!("{of_step:?}"), format!("{:?}", parse_step_operation(data)), "the parser changed its mind");
    let (investigation, recovery) = (parse_investigation(data), parse_recover(data));
    assert_eq!(recovery, parse_recover(data), "the parser changed its mind");
    let refused = [
        parsed.as_ref().err().cloned(),
        cancellation.err(),
        of_task.as_ref().err().cloned(),
        of_step.as_ref().err().cloned(),
        pause.err(),
        investigation.as_ref().err().cloned(),
        recovery.err(),
    ];
    if let Ok(value) = serde_json::from_slice(data) {
        for faults in refused.into_iter().flatten() {
            assert!(!faults.0.is_empty(), "refused without a fault");
            places::resolve(&faults.0, &value, "meta-schema");
        }
    }
    let mut kept = Vec::new();
    if let Ok(action) = parsed {
        kept.push(action.metadata);
        if let StepVerb::Resolve(result) = action.verb {
            kept.push(result);
        }
    }
    if let Ok(request) = of_step {
        kept.push(request.metadata);
        match request.action {
            StepOperation::Retry(json) | StepOperation::Redo(json) => kept.push(json),
            StepOperation::Resolve(GivenResult::Value(json)) => kept.push(Some(json)),
            _ => {}
        }
    }
    kept.extend(of_task.map(|request| request.metadata));
    kept.extend(investigation.map(|found| found.metadata));
    let text = String::from_utf8_lossy(data);
    for kept in kept.into_iter().flatten() {
        assert_eq!(json::check(kept.get()), Ok(()), "it was not checked");
        assert!(text.contains(kept.get()), "it is not what was sent");
    }
}
