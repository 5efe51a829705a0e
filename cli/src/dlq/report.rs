//! Reports what happened to each dead letter: to people immediately, to programs at the end.

use serde::Serialize;
use serde_json::{Value, json};
use tasker_wire::limits;

use super::{dead_letter::DeadLetter, look::Remaining};
use crate::{
    error::{CommandError, Exit, Result},
    output::{self, Format, counted, shortened},
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DeadLetterOutcome {
    /// It is in its original queue.
    Redriven {
        new_message_id: String,
        /// Why it is also still in the dead-letter queue, where another run may redrive it again.
        #[serde(skip_serializing_if = "Option::is_none")]
        also_kept: Option<String>,
    },
    Deleted,
    /// It is still in the dead-letter queue.
    Kept {
        why: String,
    },
}

#[derive(Debug, Clone, Serialize)]
pub struct HandledDeadLetter {
    #[serde(flatten)]
    pub dead_letter: DeadLetter,
    #[serde(flatten)]
    pub outcome: DeadLetterOutcome,
}

impl HandledDeadLetter {
    fn view(&self) -> String {
        let outcome = match &self.outcome {
            DeadLetterOutcome::Redriven { also_kept: None, .. } => "redriven".to_owned(),
            DeadLetterOutcome::Redriven { also_kept: Some(why), .. } => format!("redriven, and still here ({why})"),
            DeadLetterOutcome::Deleted => "deleted".to_owned(),
            DeadLetterOutcome::Kept { why } => format!("kept: {why}"),
        };
        let DeadLetter { queue, message_id, kind, task_id, .. } = &self.dead_letter;
        let about = match task_id {
            Some(task) => format!("task {task} step {}", shortened(&self.dead_letter.step_shown(), limits::NAME_CHARS)),
            None => (*kind).to_owned(),
        };
        format!("{queue}  {message_id}  {about}  {}", shortened(&outcome, 200))
    }
}

pub struct RunReport {
    format: Format,
    /// `redriven` or `deleted`.
    done: &'static str,
    items: Vec<HandledDeadLetter>,
    pub remaining: Remaining,
}

impl RunReport {
    pub fn new(format: Format, done: &'static str) -> Self {
        Self { format, done, items: Vec::new(), remaining: Remaining::default() }
    }

    pub fn add(&mut self, item: HandledDeadLetter) -> Result {
        if self.format == Format::Table {
            output::print(&item.view())?;
        }
        self.items.push(item);
        Ok(())
    }

    /// Prints the totals, or the whole document for a program, which extends `document`. A kept dead letter makes the command fail.
    pub fn end(self, mut document: Value) -> Result {
        let kept = self.items.iter().filter(|item| matches!(item.outcome, DeadLetterOutcome::Kept { .. })).count();
        let done = self.items.len() - kept;
        match self.format {
            Format::Json => {
                document["items"] = json!(self.items);
                document[self.done] = json!(done);
                document["kept"] = json!(kept);
                self.remaining.add_to(&mut document);
                output::print_json(&document.to_string())?;
            }
            Format::Table if self.items.is_empty() => {
                let maybe = self.remaining.remark("", "; the search was incomplete: run it again");
                output::print(&format!("no dead letter matches: nothing was done{maybe}"))?;
            }
            Format::Table => {
                let more = "; there are more that match: run it again, or give a larger --max";
                let more = self.remaining.remark(more, "; there may be more that match: run it again");
                output::print(&format!("{} {}{more}", counted(done, "dead letter"), self.done))?;
            }
        }
        match kept {
            0 => Ok(()),
            _ => Err(CommandError::new(Exit::Error, format!("{kept} of {} dead letters were not {}", done + kept, self.done))),
        }
    }
}
