//! The cost of a statement: the pages it touches, and the tables it scans, with the functions that it calls.

use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Whether a workload is measured, and the name of its situation.
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
    /// Bytes that it wrote to the write-ahead log.
    log_bytes: u64,
    /// Tables that it scanned.
    scanned: Vec<String>,
}

/// A connection with its query plans, as the product has them.
pub struct Session {
    client: Client,
    pub costs: Vec<Cost>,
}

impl Session {
    pub fn over(client: Client) -> Self {
        Self { client, costs: Vec::new() }
    }

    /// Runs a statement of the store, `file` without its extension, with its parameters as SQL literals.
    /// It may touch `bound` pages.
    pub async fn run(&mut self, meter: Meter, file: &str, what: &str, params: &[&str], bound: u64) {
        let sql = bound_to(&statement(file), params);
        let Meter::Running(situation) = meter else {
            self.client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{file}: {e:?}\n{sql}"));
            return;
        };
        // The counters of this session are exact immediately; the shared ones are delayed.
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

    /// Allows the last statement to start a scan: its bound shows that the scan ends early.
    pub fn may_begin_a_scan(&mut self) {
        if let Some(cost) = self.costs.last_mut() {
            cost.scanned.clear();
        }
    }

    /// Bytes that all statements wrote to the write-ahead log.
    pub fn log_bytes(&self) -> u64 {
        self.costs.iter().map(|c| c.log_bytes).sum()
    }

    pub fn print(&self) {
        for cost in &self.costs {
            println!("{:>6} of {:>6} pages  {:<48} {}", cost.pages, cost.bound, cost.statement, cost.situation);
        }
    }

    /// The statements that cost too much, in sentences.
    pub fn faults(&self) -> Vec<String> {
        let too_many = self.costs.iter().filter(|c| c.pages > c.bound);
        let scans = self.costs.iter().filter(|c| !c.scanned.is_empty());
        too_many
            .map(|c| format!("{} with {}: {} pages, at most {} are allowed", c.statement, c.situation, c.pages, c.bound))
            .chain(scans.map(|c| format!("{} with {}: reads all of {}", c.statement, c.situation, c.scanned.join(", "))))
            .collect()
    }
}

/// Tables whose counter has grown.
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

/// The statement with its parameters filled in: the planner sees the same as with bound values.
fn bound_to(sql: &str, params: &[&str]) -> String {
    (1..=params.len()).rev().fold(sql.to_owned(), |sql, n| sql.replace(&format!("${n}"), params[n - 1]))
}
