//! The state machine of a step: the oracle with which the SQL functions are compared.

use tasker_domain::Verdict;
use tasker_wire::StepState;

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepEvent {
    /// Its last parent is done, or its retry is due: it is dispatched under a new lease.
    Dispatch,
    /// A worker reports a start, a heartbeat, or a pending callback.
    Report,
    Succeed,
    /// It fails and has attempts left.
    FailForNow,
    /// It fails and has no attempts left.
    FailForGood,
    Cancel,
    /// An operator gives it a new budget.
    Retry,
    /// An operator resolves it.
    Resolve,
}

impl From<&Verdict<'_>> for StepEvent {
    fn from(verdict: &Verdict<'_>) -> Self {
        match verdict {
            Verdict::Complete(_) | Verdict::Expand(..) => Self::Succeed,
            Verdict::Retry(..) => Self::FailForNow,
            Verdict::Error { .. } => Self::FailForGood,
            Verdict::DispatchAgain(_) => Self::Dispatch,
            Verdict::Started(_) | Verdict::AwaitCallback(_) => Self::Report,
        }
    }
}

/// Its lease may still get an outcome.
pub fn is_answerable(state: StepState) -> bool {
    matches!(state, StepState::Enqueued | StepState::InProgress)
}

/// A sweep will look at it again (`wake_at` is set).
pub fn is_live(state: StepState) -> bool {
    is_answerable(state) || state == StepState::WaitingForRetry
}

/// The state after `event`, or `None` where the event is not allowed and changes nothing.
pub fn after(state: StepState, event: StepEvent) -> Option<StepState> {
    use StepEvent::{Cancel, Dispatch, FailForGood, FailForNow, Report, Resolve, Retry, Succeed};
    use StepState::{Cancelled, Complete, Enqueued, Error, InProgress, Pending, ResolvedManually, WaitingForRetry};
    Some(match (state, event) {
        (Pending | Enqueued | InProgress | WaitingForRetry, Dispatch) => Enqueued,
        (Enqueued | InProgress, Report) => InProgress,
        (Enqueued | InProgress, Succeed) => Complete,
        (Enqueued | InProgress, FailForNow) => WaitingForRetry,
        (Enqueued | InProgress, FailForGood) => Error,
        (Pending | Enqueued | InProgress | WaitingForRetry, Cancel) => Cancelled,
        (Error | WaitingForRetry | Cancelled, Retry) => Enqueued,
        (Pending | Enqueued | InProgress | WaitingForRetry | Error, Resolve) => ResolvedManually,
        _ => return None,
    })
}

#[test]
fn a_finished_step_is_moved_by_operators_only() {
    use StepEvent::{Cancel, Dispatch, FailForGood, FailForNow, Report, Succeed};
    for &state in StepState::ALL.iter().filter(|s| s.is_finished()) {
        for event in [Dispatch, Report, Succeed, FailForNow, FailForGood, Cancel] {
            assert_eq!(after(state, event), None, "{state} {event:?}");
        }
    }
}
