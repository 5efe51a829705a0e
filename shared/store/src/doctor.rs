//! Compares the stored counters with the rows they count, and reports every difference. It changes nothing.
//!
//! It reads all tasks, page by page. Each statement sees one state of the database, in which counters and rows agree, so it may run
//! at any time.

use tasker_domain::{GraphStep, token::TemplateRef};
use tasker_wire::{StepNo, TaskId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::{Store, StoreError, change::task_id, row::from_row, store::sql};

/// Tasks and steps of a page. One statement checks them well within its timeout.
const PAGE_TASKS: i64 = 10_000;
const PAGE_STEPS: i64 = 100_000;
/// Tasks and steps of a page whose rows are read.
const GRAPH_TASKS: i64 = 1_000;
const GRAPH_STEPS: i64 = 20_000;
/// Differences that are listed. So many have one cause.
const LISTED: usize = 100;

#[derive(Debug, Default)]
pub struct Examination {
    pub tasks: i64,
    pub steps: i64,
    /// The number of all differences, listed or not.
    pub total: i64,
    /// The first [`LISTED`] ones.
    pub differences: Vec<Difference>,
}

/// A stored value that differs from the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub task: Uuid,
    pub no: Option<i32>,
    /// The step's name, if the step has a row.
    pub step: Option<String>,
    pub what: String,
    pub stored: Option<String>,
    /// `None` if the facts do not exist.
    pub facts: Option<String>,
}

/// Dispatched steps that no worker has started, all of one step of a template.
#[derive(Debug)]
pub struct WaitingSteps {
    pub template: TemplateRef,
    /// The task of one of them.
    pub task: TaskId,
    pub no: StepNo,
    pub count: i64,
}

/// A task whose steps depend on what was decided.
#[derive(Debug)]
pub struct StoredGraph {
    pub task: Uuid,
    pub template: TemplateRef,
    /// Ascending.
    pub steps: Vec<StoredStep>,
}

#[derive(Debug)]
pub struct StoredStep {
    pub name: String,
    /// Whether it is complete or resolved.
    pub is_done: bool,
    pub row: GraphStep,
    /// See [`Created::numbers`](tasker_domain::Created::numbers).
    pub created: Option<Vec<StepNo>>,
}

impl Store {
    /// The templates with decisions or batchables.
    pub async fn dynamic_templates(&self) -> Result<Vec<Uuid>, StoreError> {
        Ok(self.read(sql!("dynamic_templates"), &[]).await?.iter().map(|row| row.get("template_id")).collect())
    }

    /// The next tasks of these templates, by their ids; none after the last one.
    pub async fn graphs(&self, after: Uuid, templates: &[Uuid]) -> Result<Vec<StoredGraph>, StoreError> {
        let rows = self.read(sql!("doctor_graphs"), &[&after, &GRAPH_TASKS, &GRAPH_STEPS, &templates.to_vec()]).await?;
        let mut graphs: Vec<StoredGraph> = Vec::new();
        for row in &rows {
            let task = row.get("task_id");
            if graphs.last().is_none_or(|last| last.task != task) {
                let template = TemplateRef { template_id: row.get("template_id"), environment: row.get("environment") };
                graphs.push(StoredGraph { task, template, steps: Vec::new() });
            }
            let Some(no) = row.get("no") else { continue };
            let row_of = from_row!(row, GraphStep { parents, children, further_ancestors; no: no });
            let step = from_row!(row, StoredStep { name, is_done, created; row: row_of });
            graphs.last_mut().expect("it was just pushed").steps.push(step);
        }
        Ok(graphs)
    }

    /// The dispatched steps that no worker has started, by the step of their template.
    pub async fn waiting_steps(&self) -> Result<Vec<WaitingSteps>, StoreError> {
        let rows = self.request(sql!("waiting_steps"), &[]).await?;
        let read = |row: &Row| {
            let template = TemplateRef { template_id: row.get("template_id"), environment: row.get("environment") };
            WaitingSteps { template, task: task_id(row.get("task_id")), no: row.get("no"), count: row.get("steps") }
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Compares all counters with their rows.
    pub async fn examine(&self) -> Result<Examination, StoreError> {
        let mut found = Examination::default();
        let mut after = Uuid::nil();
        loop {
            let rows = self.read(sql!("doctor_page"), &[&after, &PAGE_TASKS, &PAGE_STEPS]).await?;
            let last: Option<Uuid> = rows.first().and_then(|r| r.get("task_id"));
            if let Some(row) = rows.first().filter(|_| last.is_some()) {
                found.tasks += row.get::<_, i64>("tasks");
                found.steps += row.get::<_, i64>("steps");
            }
            // Beyond the last task there may be steps without one.
            let up_to = last.unwrap_or(Uuid::max());
            for sql in [sql!("doctor_tasks"), sql!("doctor_steps"), sql!("doctor_orphans")] {
                found.add(&self.read(sql, &[&after, &up_to, &(LISTED as i64)]).await?);
            }
            let Some(last) = last else { return Ok(found) };
            after = last;
        }
    }
}

impl Examination {
    /// Adds a difference that was found elsewhere.
    pub fn push(&mut self, difference: Difference) {
        self.total += 1;
        if self.differences.len() < LISTED {
            self.differences.push(difference);
        }
    }

    fn add(&mut self, rows: &[Row]) {
        self.total += rows.first().map_or(0, |r| r.get("total"));
        let room = LISTED - self.differences.len();
        let read = |row: &Row| from_row!(row, Difference { no, step, what, stored, facts; task: row.get("task_id") });
        self.differences.extend(rows.iter().take(room).map(read));
    }
}
