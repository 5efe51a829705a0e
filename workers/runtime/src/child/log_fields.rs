//! The fields of a log line about steps. With several steps each field is a list, in the same order.

use tasker_wire::RunStep;

/// The most steps in one log line. All steps of a worker would make it unreadable.
const MOST: usize = 10;

/// Empty fields are not logged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct LogFields {
    pub task_id: Option<String>,
    pub step: Option<String>,
    pub attempt: Option<String>,
    pub correlation_id: Option<String>,
}

impl<'a> FromIterator<&'a RunStep> for LogFields {
    fn from_iter<I: IntoIterator<Item = &'a RunStep>>(steps: I) -> Self {
        let steps: Vec<&RunStep> = steps.into_iter().take(MOST).collect();
        let list = |field: fn(&RunStep) -> String| {
            let items: Vec<String> = steps.iter().map(|step| field(step)).collect();
            (!items.is_empty()).then(|| items.join(", "))
        };
        Self {
            task_id: list(|step| step.task_id.to_string()),
            step: list(|step| step.step_name.clone()),
            attempt: list(|step| step.attempt.to_string()),
            correlation_id: list(|step| step.correlation_id.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tasker_wire::TaskId;

    use super::*;

    #[test]
    fn one_step_is_named_as_it_is_several_as_lists_and_no_more_than_ten() {
        let steps: Vec<RunStep> = (0..12)
            .map(|no| crate::testing::step(TaskId::from_fresh(uuid::Uuid::nil()).step(no), &format!("step_{no}")))
            .collect();
        assert_eq!(LogFields::from_iter([]), LogFields::default());
        let one = LogFields::from_iter(&steps[..1]);
        assert_eq!((one.step.as_deref(), one.task_id), (Some("step_0"), Some(steps[0].task_id.to_string())));
        let two = LogFields::from_iter(&steps[..2]);
        assert_eq!((two.step.as_deref(), two.attempt.as_deref()), (Some("step_0, step_1"), Some("1, 1")));
        let all = LogFields::from_iter(&steps);
        assert!(all.step.unwrap().ends_with(", step_9"));
    }
}
