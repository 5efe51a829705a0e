//! A task on one screen: its fields, its progress, its errors, and the commands that help.

use tasker_wire::{
    StepState, TaskState,
    rest::{StepExecutionError, StepResponse, TaskResponse},
};

use crate::output::{between, counted, fields, line, moment, shortened, table};

const SHOWN_STEPS: usize = 40;
const SHOWN_ERRORS: usize = 5;
/// Characters of an error in a row of the table.
const NOTE: usize = 100;

pub fn created(task: &TaskResponse) -> String {
    let TaskResponse { task_uuid, name, version, namespace, total_steps, .. } = task;
    let steps = counted(total_steps, "step");
    let warnings: String = task.warnings.iter().map(|warning| format!("\n! {}", line(warning))).collect();
    format!("task {task_uuid}: {} {} in {}, {steps}{warnings}", line(name), line(version), line(namespace))
}

pub fn task(task: &TaskResponse, steps: &[StepResponse]) -> String {
    let shown = worth_showing(steps);
    let more = match steps.len() - shown.len() {
        0 => String::new(),
        hidden => format!("… and {hidden} more steps: tasker-ctl task steps {}\n", task.task_uuid),
    };
    format!("{}\n{}\n{more}{}", head(task, steps), self::steps(shown), errors(task, steps))
}

fn head(task: &TaskResponse, steps: &[StepResponse]) -> String {
    let end = task.completed_at.as_deref().map(|at| format!("{}, after {}", moment(at), between(&task.created_at, at)));
    let status = match task.execution_status.as_str() {
        "" | "all_complete" => task.status.to_string(),
        more => format!("{} ({})", task.status, more.replace('_', " ")),
    };
    fields(&[
        ("task", task.task_uuid.to_string()),
        ("template", format!("{} {} in {}", task.name, task.version, task.namespace)),
        ("status", status),
        ("steps", counts_by_state(steps)),
        ("created", format!("{} by {} ({}): {}", moment(&task.created_at), task.initiator, task.source_system, task.reason)),
        ("ended", end.unwrap_or_default()),
        ("priority", task.priority.map(|p| p.to_string()).unwrap_or_default()),
        ("tags", task.tags.join(", ")),
        ("correlation", if task.correlation_id.is_nil() { String::new() } else { task.correlation_id.to_string() }),
    ])
}

/// Such as `3 complete, 1 error, 2 pending of 6`, in the order in which the states first appear.
fn counts_by_state(steps: &[StepResponse]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for step in steps {
        let state = step.current_state.to_string().replace('_', " ");
        match counts.iter_mut().find(|(counted, _)| *counted == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    let words: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if words.is_empty() { "none".into() } else { format!("{} of {}", words.join(", "), steps.len()) }
}

/// All steps if they fit on the screen, otherwise those that are neither pending nor complete.
fn worth_showing(steps: &[StepResponse]) -> Vec<&StepResponse> {
    if steps.len() <= SHOWN_STEPS {
        return steps.iter().collect();
    }
    let calm = |step: &StepResponse| matches!(step.current_state.known(), Some(StepState::Pending | StepState::Complete));
    steps.iter().filter(|step| !calm(step)).take(SHOWN_STEPS).collect()
}

pub fn steps<'a>(steps: impl IntoIterator<Item = &'a StepResponse>) -> String {
    let row = |step: &StepResponse| {
        let last = step.last_attempted_at.as_deref().map(moment).unwrap_or_default();
        vec![
            step.name.clone(),
            step.current_state.to_string(),
            format!("{}/{}", step.attempts, step.max_attempts),
            last,
            note(step),
        ]
    };
    table(&["STEP", "STATE", "ATTEMPTS", "LAST ATTEMPT", "NOTE"], steps.into_iter().map(row))
}

/// The reason for the step's state.
fn note(step: &StepResponse) -> String {
    let why = error(step).map(|error| shortened(&described(error), NOTE)).unwrap_or_default();
    let retry = || step.next_retry_at.as_deref().map(|at| format!("again at {}", moment(at))).unwrap_or_default();
    match step.current_state.known() {
        Some(StepState::Pending) if step.completed_parents < step.total_parents => {
            format!("waits for {} of {} parents", step.total_parents - step.completed_parents, step.total_parents)
        }
        Some(StepState::Pending) => step.waiting_reason.clone().unwrap_or_else(|| "held".into()),
        Some(StepState::Enqueued) => step.waiting_reason.clone().unwrap_or_else(|| "waits for a worker".into()),
        Some(StepState::WaitingForRetry) => {
            [retry(), why].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
        }
        Some(StepState::Error) => why,
        _ => String::new(),
    }
}

fn error(step: &StepResponse) -> Option<&StepExecutionError> {
    step.results.as_ref()?.error.as_ref()
}

fn described(error: &StepExecutionError) -> String {
    match error.error_type.as_str() {
        "" => error.message.clone(),
        kind => format!("{kind}: {}", error.message),
    }
}

/// The errors in full, each with the command that helps.
fn errors(task: &TaskResponse, steps: &[StepResponse]) -> String {
    let failed: Vec<&StepResponse> = steps.iter().filter(|step| step.current_state.known() == Some(StepState::Error)).collect();
    let mut view = String::new();
    for step in failed.iter().take(SHOWN_ERRORS) {
        let Some(error) = error(step) else { continue };
        let StepResponse { attempts, max_attempts, .. } = step;
        let (name, why) = (line(&step.name), line(&described(error)));
        view.push_str(&format!("\n{name} failed in attempt {attempts} of {max_attempts}: {why}\n"));
        // What was tolerated may be retried only while no step after it was dispatched, and not once the task is complete.
        let verb = if step.tolerated { "redo" } else { "retry" };
        view.push_str(&match task.status.known() {
            Some(TaskState::ResolvedManually) => String::new(),
            Some(TaskState::Cancelled) => format!("  tasker-ctl task reopen {} --reason …\n", task.task_uuid),
            _ => format!("  tasker-ctl step {verb} {} {} --reason …\n", task.task_uuid, shell_words::quote(&name)),
        });
    }
    if failed.len() > SHOWN_ERRORS {
        view.push_str(&format!("\n… and {} more steps failed\n", failed.len() - SHOWN_ERRORS));
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(json: serde_json::Value) -> StepResponse {
        serde_json::from_value(json).unwrap()
    }

    fn failed() -> StepResponse {
        step(serde_json::json!({"name": "charge", "current_state": "error", "attempts": 3, "max_attempts": 3, "total_parents": 1,
            "completed_parents": 1, "last_attempted_at": "2026-01-02T03:04:05.123456Z",
            "results": {"success": false, "error": {"message": "no\u{1b}[2J money", "error_type": "declined", "retryable": false}}}))
    }

    fn order() -> TaskResponse {
        serde_json::from_value(serde_json::json!({"task_uuid": "01990000-0000-7000-8000-000000000000", "name": "order", "namespace": "shop",
            "version": "1.0.0", "status": "error", "created_at": "2026-01-02T03:04:00Z", "completed_at": "2026-01-02T03:04:06.5Z",
            "initiator": "me", "source_system": "cli", "reason": "test", "total_steps": 2, "execution_status": "blocked_by_failures"}))
        .unwrap()
    }

    #[test]
    fn one_screen_shows_the_progress_the_errors_and_the_remedy() {
        let waiting = step(
            serde_json::json!({"name": "ship it", "current_state": "pending", "max_attempts": 3, "total_parents": 2, "completed_parents": 1}),
        );
        let shown = task(&order(), &[failed(), waiting]);
        let expected = "\
task      01990000-0000-7000-8000-000000000000
template  order 1.0.0 in shop
status    error (blocked by failures)
steps     1 error, 1 pending of 2
created   2026-01-02 03:04:00Z by me (cli): test
ended     2026-01-02 03:04:06Z, after 6.5 s

STEP     STATE    ATTEMPTS  LAST ATTEMPT          NOTE
charge   error    3/3       2026-01-02 03:04:05Z  declined: no\\u{1b}[2J money
ship it  pending  0/3                             waits for 1 of 2 parents

charge failed in attempt 3 of 3: declined: no\\u{1b}[2J money
  tasker-ctl step retry 01990000-0000-7000-8000-000000000000 charge --reason …
";
        let trimmed: String = shown.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(trimmed, expected);
    }

    #[test]
    fn a_waiting_step_shows_when_its_next_attempt_is_and_why() {
        let waiting =
            step(serde_json::json!({"name": "a", "current_state": "waiting_for_retry", "next_retry_at": "2026-01-02T03:04:05",
            "results": {"error": {"message": "busy", "error_type": "timeout"}}}));
        assert_eq!(note(&waiting), "again at 2026-01-02 03:04:05Z: timeout: busy");
    }

    #[test]
    fn of_many_steps_only_active_and_failed_ones_are_shown() {
        let calm = || (0..100).map(|_| step(serde_json::json!({"name": "calm", "current_state": "complete"})));
        let steps: Vec<StepResponse> = calm().chain([failed()]).chain(calm()).collect();
        let shown = task(&order(), &steps);
        assert!(shown.contains("charge") && !shown.contains("calm"), "{shown}");
        assert!(shown.contains("… and 200 more steps"), "{shown}");
    }

    #[test]
    fn a_worker_that_waits_for_a_place_waits_for_no_parent() {
        let worker =
            step(serde_json::json!({"name": "w_2", "current_state": "pending", "total_parents": 1, "completed_parents": 1,
            "waiting_reason": "waits for a place in its batch"}));
        assert_eq!(note(&worker), "waits for a place in its batch");
    }

    #[test]
    fn the_command_below_an_error_is_one_that_the_state_allows() {
        let help = |status: &str, tolerated: bool| {
            let task = TaskResponse { status: TaskState::parse(status).unwrap().into(), ..order() };
            errors(&task, &[StepResponse { tolerated, ..failed() }]).lines().nth(2).map(str::to_owned)
        };
        let command = |verb: &str| Some(format!("  tasker-ctl {verb} --reason …"));
        let of_step = |verb: &str| command(&format!("step {verb} 01990000-0000-7000-8000-000000000000 charge"));
        assert_eq!(help("running", false), of_step("retry"));
        assert_eq!(help("error", true), of_step("redo"));
        assert_eq!(help("complete", true), of_step("redo"));
        assert_eq!(help("cancelled", false), command("task reopen 01990000-0000-7000-8000-000000000000"));
        assert_eq!(help("resolved_manually", false), None);
    }

    #[test]
    fn a_strange_name_is_quoted_for_the_shell() {
        let retry = |name: &str| errors(&order(), &[StepResponse { name: name.into(), ..failed() }]);
        assert!(retry("a_b-1").contains(" a_b-1 --reason"), "{}", retry("a_b-1"));
        assert!(retry("it's; rm").contains(r" 'it'\''s; rm' --reason"), "{}", retry("it's; rm"));
    }
}
