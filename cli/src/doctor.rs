//! `tasker-ctl doctor`: has the server compare what it counts with what it knows, and tells where they differ.

use serde::Deserialize;
use serde_json::Value;

use crate::{
    client::Client,
    failure::{Exit, Failure, Result},
    output::{self, Format, table},
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    checked: Checked,
    /// All differences, also those that are not listed.
    total: u64,
    differences: Vec<Difference>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Checked {
    tasks: u64,
    steps: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Difference {
    task_uuid: String,
    step: Option<String>,
    what: String,
    stored: Value,
    facts: Value,
}

/// Runs the command.
pub async fn run(client: &Client, format: Format) -> Result {
    let answer = client.get(&["v1", "doctor"], &()).await?;
    let report: Report = answer.read()?;
    match format {
        Format::Json => output::print_json(&answer.text)?,
        Format::Table => output::print(&view(&report))?,
    }
    match report.total.max(report.differences.len() as u64) {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Error, format!("counters differ from the facts: {count}"))),
    }
}

fn view(report: &Report) -> String {
    let checked = format!("checked {} tasks and {} steps", report.checked.tasks, report.checked.steps);
    if report.differences.is_empty() {
        return format!("{checked}: no differences");
    }
    let row = |d: &Difference| {
        vec![d.task_uuid.clone(), d.step.clone().unwrap_or_default(), d.what.clone(), word(&d.stored), word(&d.facts)]
    };
    format!("{}\n\n{checked}", table(&["TASK", "STEP", "WHAT", "STORED", "FACTS"], report.differences.iter().map(row)))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_a_row_with_both_values() {
        let report = serde_json::json!({"checked": {"tasks": 2, "steps": 9},
            "differences": [{"task_uuid": "t", "step": null, "what": "active_steps", "stored": 1, "facts": "0"}]});
        let shown = view(&serde_json::from_value(report).unwrap());
        assert!(shown.lines().any(|line| line.split_whitespace().eq(["t", "active_steps", "1", "0"])), "{shown}");
        assert!(shown.ends_with("checked 2 tasks and 9 steps"), "{shown}");
    }
}
