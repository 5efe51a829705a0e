//! `tasker-ctl doctor`: shows the stored counters that differ from the rows they count.

use tasker_wire::rest::{CounterDifference, DoctorReport, UnservedPool};

use crate::{
    client::Client,
    error::{CommandError, Exit, Result},
    output::{self, Format, counted, line, table},
};

pub async fn run(client: &Client, format: Format) -> Result {
    let response = client.get(&["v1", "doctor"], &()).await?;
    let report: DoctorReport = response.read()?;
    output::print_response(&response, format, view)?;
    match report.total.max(report.differences.len() as i64) {
        0 => Ok(()),
        count => Err(CommandError::new(
            Exit::Error,
            format!("stored counters that differ from their rows: {count}; report this as a bug"),
        )),
    }
}

fn view(report: &DoctorReport) -> String {
    let mut checked = format!("checked {} tasks and {} steps", report.checked.tasks, report.checked.steps);
    if report.differences.is_empty() {
        checked.push_str(": no differences");
    }
    report.locks.iter().for_each(|held| checked.push_str(&format!("\nanother session holds {}", output::line(held))));
    if report.differences.is_empty() {
        return format!("{checked}{}", unserved(report));
    }
    let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".into());
    let row = |d: &CounterDifference| {
        vec![d.task_uuid.to_string(), d.step.clone().unwrap_or_default(), d.what.clone(), word(&d.stored), word(&d.facts)]
    };
    format!(
        "{}\n\n{checked}{}",
        table(&["TASK", "STEP", "WHAT", "STORED", "FACTS"], report.differences.iter().map(row)),
        unserved(report)
    )
}

/// The pools without a worker, which are no differences, but work that nobody does.
fn unserved(report: &DoctorReport) -> String {
    let pools = report.unserved_pools.iter();
    let sentence = |p: &UnservedPool| {
        format!("\n! pool {} has {}, each {}", line(&p.pool), counted(p.steps, "dispatched step"), line(&p.why))
    };
    pools.map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_a_row_with_both_values() {
        const TASK: &str = "01990000-0000-7000-8000-000000000000";
        let report = serde_json::json!({"checked": {"tasks": 2, "steps": 9},
            "differences": [{"task_uuid": TASK, "step": null, "what": "active_steps", "stored": "1", "facts": "0"}]});
        let shown = view(&serde_json::from_value(report).unwrap());
        assert!(shown.lines().any(|line| line.split_whitespace().eq([TASK, "active_steps", "1", "0"])), "{shown}");
        assert!(shown.ends_with("checked 2 tasks and 9 steps"), "{shown}");
    }

    #[test]
    fn a_pool_without_a_worker_is_told_beside_the_counters() {
        let pools = [serde_json::json!({"pool": "gamma", "steps": 2, "why": "waits for a worker of pool gamma; none is known"})];
        let report = serde_json::json!({"checked": {"tasks": 2, "steps": 9}, "unserved_pools": pools});
        let shown = view(&serde_json::from_value(report).unwrap());
        let expected = "checked 2 tasks and 9 steps: no differences\n! pool gamma has 2 dispatched steps, each waits for a worker of pool gamma; none is known";
        assert_eq!(shown, expected);
    }
}
