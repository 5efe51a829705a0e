//! What operator actions have in common: their options, and how their effects are shown.

use clap::Args;
use tasker_wire::{
    StepState,
    rest::{ActionBody, ActionResponse, StepEffect, Word},
};

use crate::{
    error::Result,
    input::default_actor,
    output::{self, Format, counted, line, table},
};

/// Who acts and why, and whether it is only to be shown.
#[derive(Debug, Args)]
pub struct ByArgs {
    /// The reason, for the audit log
    #[arg(short, long)]
    pub reason: String,
    /// Who acts, for the audit log
    #[arg(short = 'b', long, visible_alias = "by", default_value_t = default_actor())]
    pub actor: String,
    /// Change nothing, and show what would change
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ActionArgs {
    #[command(flatten)]
    by: ByArgs,
    /// What a dry run printed: act only if the action would still do the same
    #[arg(long, value_name = "SEEN", conflicts_with = "dry_run")]
    seen: Option<String>,
}

impl ActionArgs {
    pub fn body(&self, action: &str) -> ActionBody {
        ActionBody {
            action: action.to_owned(),
            actor: self.by.actor.clone(),
            reason: self.by.reason.clone(),
            seen: self.seen.clone(),
            dry_run: self.by.dry_run,
            ..ActionBody::default()
        }
    }
}

/// Prints what an action on `target` did, or would do.
pub fn print(response: &crate::client::ApiResponse, format: Format, target: &str) -> Result {
    output::print_response(response, format, |response| view(response, target, std::env::args()))
}

fn view(response: &ActionResponse, target: &str, arguments: impl Iterator<Item = String>) -> String {
    let ActionResponse { action, applied, seen, steps, .. } = response;
    let changes = match (applied, steps.len()) {
        (true, 0) => "done, no step changed".to_owned(),
        (true, count) => format!("done, {} changed", counted(count, "step")),
        (false, 0) => format!("would change no step{}", of_task(action)),
        (false, count) => format!("would change {}{}", counted(count, "step"), of_task(action)),
    };
    let mut view = format!("{} of {target}: {changes}\n", line(action));
    if !steps.is_empty() {
        view.push_str(&format!("\n{}\n", effects(steps)));
    }
    view.extend(warnings(&response.warnings));
    if !applied {
        view.push_str(&format!("\nNothing was done. To do it: {}\n", without_dry_run(arguments, Some(seen))));
    }
    view
}

/// What becomes of a task, beside its steps.
fn of_task(action: &str) -> &'static str {
    match action {
        "cancel" => ", and the task would be cancelled",
        "pause" => ", and the task would be paused: what becomes ready is held",
        "resume" => ", and the task would no longer be paused",
        _ => "",
    }
}

/// Warnings as lines.
pub fn warnings(warnings: &[String]) -> impl Iterator<Item = String> {
    warnings.iter().map(|warning| format!("! {}\n", line(warning)))
}

/// A table of what changes in steps.
pub fn effects(steps: &[StepEffect]) -> String {
    let row = |step: &StepEffect| {
        let from = step.from_state.as_ref().map(ToString::to_string).unwrap_or_default();
        vec![step.name.clone(), from, step.to_state.to_string(), meaning(step).to_owned()]
    };
    table(&["STEP", "FROM", "TO", "EFFECT"], steps.iter().map(row))
}

fn meaning(step: &StepEffect) -> &'static str {
    let from = step.from_state.as_ref().and_then(Word::known);
    match (from, step.to_state.known()) {
        (None, Some(StepState::Enqueued)) => "made and dispatched",
        (None, Some(_)) => "made",
        (Some(StepState::Pending), Some(StepState::Enqueued)) => "dispatched",
        (_, Some(StepState::Enqueued)) => "reset and dispatched",
        (_, Some(StepState::Pending)) => "reset",
        (_, Some(StepState::Cancelled)) => "cancelled",
        (_, Some(StepState::ResolvedManually)) => "resolved",
        (_, None) if step.to_state.to_string() == "deleted" => "deleted",
        _ => "",
    }
}

/// This program's command line as one that carries the action out: with `--seen` in place of `--dry-run`, or without both.
pub fn without_dry_run(arguments: impl Iterator<Item = String>, seen: Option<&str>) -> String {
    let words: Vec<String> = arguments
        .skip(1)
        .flat_map(|word| match (word.as_str(), seen) {
            ("--dry-run", Some(seen)) => vec!["--seen".to_owned(), seen.to_owned()],
            ("--dry-run", None) => Vec::new(),
            _ => vec![word],
        })
        .collect();
    line(&format!("tasker-ctl {}", shell_words::join(words)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(name: &str, from: Option<&str>, to: &str) -> StepEffect {
        let word = |word: &str| serde_json::from_value(word.into()).unwrap();
        StepEffect { name: name.into(), from_state: from.map(word), to_state: word(to), ..StepEffect::default() }
    }

    fn arguments() -> impl Iterator<Item = String> {
        ["/bin/tasker-ctl", "step", "redo", "TASK", "it's", "--dry-run", "--reason", "two words"].into_iter().map(str::to_owned)
    }

    #[test]
    fn a_dry_run_shows_every_change_and_the_line_that_makes_it() {
        let response = ActionResponse {
            action: "redo".into(),
            seen: "5ee4".into(),
            steps: vec![
                effect("a", Some("complete"), "enqueued"),
                effect("b\u{1b}", Some("complete"), "pending"),
                effect("work_001", Some("error"), "deleted"),
                effect("c", None, "pending"),
                effect("d", Some("pending"), "enqueued"),
            ],
            warnings: vec!["it may act twice".into()],
            ..ActionResponse::default()
        };
        let shown = view(&response, "step it's", arguments());
        let expected = "\
redo of step it's: would change 5 steps

STEP      FROM      TO        EFFECT
a         complete  enqueued  reset and dispatched
b\\u{1b}   complete  pending   reset
work_001  error     deleted   deleted
c                   pending   made
d         pending   enqueued  dispatched
! it may act twice

Nothing was done. To do it: tasker-ctl step redo TASK 'it'\\''s' --seen 5ee4 --reason 'two words'
";
        let trimmed: String = shown.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        assert_eq!(trimmed, expected);
    }

    #[test]
    fn an_applied_action_says_so_in_one_line_if_no_step_changed() {
        let response = ActionResponse { action: "note".into(), applied: true, ..ActionResponse::default() };
        assert_eq!(view(&response, "task 1", arguments()), "note of task 1: done, no step changed\n");
    }
}
