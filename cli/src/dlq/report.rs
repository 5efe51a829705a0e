//! What became of each letter, told as it happens to people and at the end to programs.

use serde::Serialize;
use serde_json::{Value, json};

use super::{letter::Summary, look::Rest};
use crate::{
    error::{CommandError, Exit, Result},
    output::{self, Format, shortened},
};

/// What became of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum LetterOutcome {
    /// It is in the queue it died in, under this id, and no longer here.
    Redriven {
        /// Of the copy.
        new_message_id: String,
        /// Why it is here as well; it may then be redriven twice.
        #[serde(skip_serializing_if = "Option::is_none")]
        also_kept: Option<String>,
    },
    /// It is gone.
    Deleted,
    /// It is where it was.
    Kept {
        /// What went wrong.
        why: String,
    },
}

/// A letter and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// The letter.
    #[serde(flatten)]
    pub letter: Summary,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: LetterOutcome,
}

impl Item {
    fn view(&self) -> String {
        let outcome = match &self.outcome {
            LetterOutcome::Redriven { also_kept: None, .. } => "redriven".to_owned(),
            LetterOutcome::Redriven { also_kept: Some(why), .. } => format!("redriven, and still here ({why})"),
            LetterOutcome::Deleted => "deleted".to_owned(),
            LetterOutcome::Kept { why } => format!("kept: {why}"),
        };
        let about = match self.letter.task_id {
            Some(task) => format!("task {task} step {}", shortened(&self.letter.step_shown(), 40)),
            None => self.letter.kind.name().to_owned(),
        };
        format!("{}  {}  {about}  {}", self.letter.queue, self.letter.message_id, shortened(&outcome, 200))
    }
}

/// The items so far.
pub struct Report {
    format: Format,
    /// As `redriven`.
    done: &'static str,
    items: Vec<Item>,
    /// What else there is that matches.
    pub rest: Rest,
}

impl Report {
    /// Of nothing yet; `done` is what becomes of letters when all is well.
    pub fn new(format: Format, done: &'static str) -> Self {
        Self { format, done, items: Vec::new(), rest: Rest::default() }
    }

    /// Tells one more.
    pub fn add(&mut self, item: Item) -> Result {
        if self.format == Format::Table {
            output::print(&item.view())?;
        }
        self.items.push(item);
        Ok(())
    }

    /// Tells the rest: all of it, to a program. What was kept makes a failure.
    pub fn end(self, with: Value) -> Result {
        let kept = self.items.iter().filter(|item| matches!(item.outcome, LetterOutcome::Kept { .. })).count();
        let done = self.items.len() - kept;
        match self.format {
            Format::Json => {
                let mut shown = with;
                shown["items"] = json!(self.items);
                shown[self.done] = json!(done);
                shown["kept"] = json!(kept);
                self.rest.tell(&mut shown);
                output::print_json(&shown.to_string())?;
            }
            Format::Table if self.items.is_empty() => {
                let maybe = self.rest.told("", "; there may be some that were not seen: run it again");
                output::print(&format!("no letter matches: nothing was done{maybe}"))?;
            }
            Format::Table => {
                let more = "; there are more that match: run it again, or give a larger --max";
                let more = self.rest.told(more, "; there may be more that match: run it again");
                let plural = if done == 1 { "" } else { "s" };
                output::print(&format!("{done} letter{plural} {}{more}", self.done))?;
            }
        }
        match kept {
            0 => Ok(()),
            _ => Err(CommandError::new(Exit::Error, format!("{kept} of {} letters were not {}", done + kept, self.done))),
        }
    }
}
