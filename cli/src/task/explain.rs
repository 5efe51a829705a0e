//! A task in sentences: its own, one for each step that is not done, and what helps, with its command.

use tasker_wire::{
    Remedy,
    rest::{ActHint, ExplainResponse},
};

use crate::output::{counted, line};

/// Steps that are shown. The response has more.
const SHOWN: usize = 40;

pub fn view(explained: &ExplainResponse) -> String {
    let ExplainResponse { sentence, act, steps, steps_omitted, .. } = explained;
    let mut view = said(explained, sentence, act.as_ref());
    if !steps.is_empty() {
        view.push('\n');
    }
    // What helps several steps is shown once.
    let mut shown: Vec<&ActHint> = act.iter().collect();
    for step in steps.iter().take(SHOWN) {
        let new = step.act.as_ref().filter(|act| !shown.contains(act));
        view.push_str(&said(explained, &step.sentence, new));
        shown.extend(new);
    }
    match steps.len().saturating_sub(SHOWN) as i64 + steps_omitted {
        0 => view,
        more => format!("{view}… and {}\n", counted(more, "more step")),
    }
}

/// A sentence, and below it what helps.
fn said(explained: &ExplainResponse, sentence: &str, act: Option<&ActHint>) -> String {
    let help = act.map(|act| format!("  {}\n{}", line(&act.sentence), command(explained, act))).unwrap_or_default();
    format!("{}\n{help}", line(sentence))
}

/// The command that does it.
fn command(ExplainResponse { task_uuid, namespace, name, .. }: &ExplainResponse, act: &ActHint) -> String {
    let command = match (act.action.known(), &act.step) {
        (Some(Remedy::Retry), Some(step)) => format!("step retry {task_uuid} {}", shell_words::quote(&line(step))),
        (Some(Remedy::Reopen), _) => format!("task reopen {task_uuid}"),
        (Some(Remedy::Resume), _) => format!("task resume {task_uuid}"),
        (Some(Remedy::ResumeTemplate), _) => {
            format!("resume {}", shell_words::quote(&line(&format!("{namespace}/{name}"))))
        }
        (Some(Remedy::ResumeNamespace), _) => format!("resume {}", shell_words::quote(&line(namespace))),
        (Some(Remedy::ExamineDeadLetters), _) => return "  tasker-ctl dlq list\n".to_owned(),
        _ => return String::new(),
    };
    format!("  tasker-ctl {command} --reason …\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(json: serde_json::Value) -> String {
        view(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn what_helps_is_shown_once_below_the_first_sentence_that_it_helps() {
        let retry = serde_json::json!({"action": "retry", "step": "it's", "sentence": "Retry it's."});
        let resume = serde_json::json!({"action": "resume_template", "sentence": "Resume template shop/order."});
        let shown = explained(
            serde_json::json!({"task_uuid": "01990000-0000-7000-8000-000000000000", "namespace": "shop", "name": "order",
            "sentence": "Failed.", "act": retry, "steps": [
                {"sentence": "it's failed: no\u{1b}[2J money.", "act": retry},
                {"sentence": "a is held.", "act": resume},
                {"sentence": "b is held.", "act": resume},
                {"sentence": "c waits.", "act": {"action": "dream", "sentence": "Sleep."}},
            ], "steps_omitted": 9}),
        );
        let expected = "\
Failed.
  Retry it's.
  tasker-ctl step retry 01990000-0000-7000-8000-000000000000 'it'\\''s' --reason …

it's failed: no\\u{1b}[2J money.
a is held.
  Resume template shop/order.
  tasker-ctl resume shop/order --reason …
b is held.
c waits.
  Sleep.
… and 9 more steps
";
        assert_eq!(shown, expected);
    }
}
