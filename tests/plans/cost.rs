//! What a statement costs: the pages it touched, and the tables it read as a whole, functions and all.

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Whether a workload is only told or also measured; and what to call it.
#[derive(Clone, Copy)]
pub enum Meter {
    Idle,
    Running(&'static str),
}

/// One statement, measured.
pub struct Cost {
    situation: &'static str,
    statement: String,
    pages: u64,
    bound: u64,
    /// Bytes that it wrote to the log of the server.
    log_bytes: u64,
    /// Tables that were read as a whole.
    scanned: Vec<String>,
}

/// One connection of the product, with the plans that it made.
pub struct Session {
    client: Client,
    pub costs: Vec<Cost>,
}

impl Session {
    pub fn over(client: Client) -> Self {
        Self { client, costs: Vec::new() }
    }

    /// Makes a statement of the store, `file` without its ending, with its parameters as SQL writes them.
    /// It may touch `bound` pages.
    pub async fn run(&mut self, meter: Meter, file: &str, what: &str, params: &[&str], bound: u64) {
        let sql = bound_to(&statement(file), params);
        let Meter::Running(situation) = meter else {
            self.client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{file}: {e:?}\n{sql}"));
            return;
        };
        // Counters of the session's own, which are exact at once; those that all sessions see come late.
        let scans = "select coalesce(json_object_agg(relname, seq_scan), '{}') from pg_stat_xact_user_tables
          where schemaname = 'tasker' and relname in ('tasks', 'steps', 'attempts', 'dlq_entries', 'audit_log')";
        let sql = format!("begin; {scans}; explain (analyze, buffers, wal, timing off, format json) {sql}; {scans}; commit");
        let rows: Vec<Value> = texts(&self.client, &sql).await.iter().map(|r| serde_json::from_str(r).unwrap()).collect();
        let [before, plan, after] = &rows[..] else { panic!("{file}: {rows:?}") };
        let count = |key| plan[0]["Plan"][key].as_u64().unwrap();
        self.costs.push(Cost {
            situation,
            statement: format!("{file} ({what})"),
            pages: count("Shared Hit Blocks") + count("Shared Read Blocks"),
            bound,
            log_bytes: count("WAL Bytes"),
            scanned: grown(before, after),
        });
    }

    /// The last statement may begin to read a table as a whole: its bound says that it ends early.
    pub fn may_begin_a_scan(&mut self) {
        if let Some(cost) = self.costs.last_mut() {
            cost.scanned.clear();
        }
    }

    /// Bytes that all of them wrote to the log.
    pub fn log_bytes(&self) -> u64 {
        self.costs.iter().map(|c| c.log_bytes).sum()
    }

    pub fn print(&self) {
        for cost in &self.costs {
            println!("{:>6} of {:>6} pages  {:<48} {}", cost.pages, cost.bound, cost.statement, cost.situation);
        }
    }

    /// What is too dear, in sentences.
    pub fn faults(&self) -> Vec<String> {
        let too_many = self.costs.iter().filter(|c| c.pages > c.bound);
        let scans = self.costs.iter().filter(|c| !c.scanned.is_empty());
        too_many
            .map(|c| format!("{} with {}: {} pages, at most {} are allowed", c.statement, c.situation, c.pages, c.bound))
            .chain(scans.map(|c| format!("{} with {}: reads all of {}", c.statement, c.situation, c.scanned.join(", "))))
            .collect()
    }
}

/// Tables whose counter is higher than before.
fn grown(before: &Value, after: &Value) -> Vec<String> {
    let counters = after.as_object().into_iter().flatten();
    counters.filter(|(table, n)| n.as_u64() > before[*table].as_u64().or(Some(0))).map(|(table, _)| table.clone()).collect()
}

async fn texts(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap_or_else(|e| panic!("{e:?}\n{sql}"));
    let text = |message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    messages.into_iter().filter_map(text).collect()
}

fn statement(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/store/sql/{file}.sql"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n")
}

/// The statement with its parameters in their places: the planner sees the same as with values that are bound.
fn bound_to(sql: &str, params: &[&str]) -> String {
    (1..=params.len()).rev().fold(sql.to_owned(), |sql, n| sql.replace(&format!("${n}"), params[n - 1]))
}
