//! Recomputes from the facts what is stored beside them, and reports every difference. It changes nothing.
//!
//! It goes through all tasks, a page at a time; each statement sees one state of the database, in which counters and facts agree
//! whatever is going on, so it may run at any time.

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    pool::{Lane, Prepared},
};

/// Tasks and steps of a page: what one statement checks well within its time.
const PAGE_TASKS: i64 = 10_000;
const PAGE_STEPS: i64 = 100_000;
/// Differences that are listed; whoever has so many has one cause.
const LISTED: usize = 100;

/// What was checked and found.
#[derive(Debug, Default)]
pub struct Examination {
    pub tasks: i64,
    pub steps: i64,
    /// All differences, whether listed or not.
    pub total: i64,
    /// The first ones.
    pub differences: Vec<Difference>,
}

/// One place where what is stored is not what the facts say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub task: Uuid,
    pub no: Option<i32>,
    /// The step's name, when it has one.
    pub step: Option<String>,
    pub what: String,
    pub stored: Option<String>,
    /// Missing where the facts do not exist.
    pub facts: Option<String>,
}

impl Store {
    /// Checks every task.
    pub async fn examine(&self) -> Result<Examination, StoreError> {
        let mut found = Examination::default();
        let mut after = Uuid::nil();
        loop {
            let page = [(&after as _, Type::UUID), (&PAGE_TASKS as _, Type::INT8), (&PAGE_STEPS as _, Type::INT8)];
            let rows = self.pool.run(Lane::Requests, Prepared::Never, include_str!("../sql/doctor_page.sql"), &page).await?;
            let last: Option<Uuid> = rows.first().and_then(|r| r.get("task_id"));
            if let Some(row) = rows.first().filter(|_| last.is_some()) {
                found.tasks += row.get::<_, i64>("tasks");
                found.steps += row.get::<_, i64>("steps");
            }
            // Beyond the last task there may be steps without one.
            let up_to = last.unwrap_or(Uuid::max());
            for sql in [
                include_str!("../sql/doctor_tasks.sql"),
                include_str!("../sql/doctor_steps.sql"),
                include_str!("../sql/doctor_orphans.sql"),
            ] {
                let params = [(&after as _, Type::UUID), (&up_to as _, Type::UUID), (&(LISTED as i64) as _, Type::INT8)];
                found.add(&self.pool.run(Lane::Requests, Prepared::Never, sql, &params).await?);
            }
            let Some(last) = last else { return Ok(found) };
            after = last;
        }
    }
}

impl Examination {
    fn add(&mut self, rows: &[Row]) {
        self.total += rows.first().map_or(0, |r| r.get("total"));
        let room = LISTED - self.differences.len();
        self.differences.extend(rows.iter().take(room).map(|r| Difference {
            task: r.get("task_id"),
            no: r.get("no"),
            step: r.get("step"),
            what: r.get("what"),
            stored: r.get("stored"),
            facts: r.get("facts"),
        }));
    }
}
