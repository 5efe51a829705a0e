//! Operator actions: bodies of `PATCH` on a step and `DELETE` on a task.

use tasker_domain::{
    action::{StepVerb, parse_cancellation, parse_step_action},
    json,
};

use super::places;

/// Parsing depends on the body only. A result that is accepted was checked, and is unchanged.
pub fn run(data: &[u8]) {
    let parsed = parse_step_action(data);
    assert_eq!(format!("{parsed:?}"), format!("{:?}", parse_step_action(data)), "the parser changed its mind");
    let cancellation = parse_cancellation(data);
    assert_eq!(cancellation, parse_cancellation(data), "the parser changed its mind");
    let refused = [parsed.as_ref().err().cloned(), cancellation.err()];
    if let Ok(value) = serde_json::from_slice(data) {
        for faults in refused.into_iter().flatten() {
            assert!(!faults.0.is_empty(), "refused without a fault");
            places::resolve(&faults.0, &value, "meta-schema");
        }
    }
    let Ok(action) = parsed else { return };
    let StepVerb::Resolve(Some(result)) = action.verb else { return };
    let text = std::str::from_utf8(data).expect("what is accepted is UTF-8");
    for kept in [Some(result), action.metadata].into_iter().flatten() {
        assert_eq!(json::check(kept.get()), Ok(()), "it was not checked");
        assert!(text.contains(kept.get()), "it is not what was sent");
    }
}
