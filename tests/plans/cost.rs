//! The cost of a statement with the functions that it calls: the pages it touches, the tables it scans, the rows it writes, and the
//! plans that are set up for it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tasker_test_support::Database;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage};

/// Whether a workload is measured, and the name of its situation.
#[derive(Clone, Copy)]
pub enum Meter {
    Idle,
    Running(&'static str),
}

/// One statement, measured.
pub struct Cost {
    pub situation: &'static str,
    pub statement: String,
    pub pages: u64,
    bound: u64,
    /// Bytes that it wrote to the write-ahead log.
    pub log_bytes: u64,
    /// Full pages among them, which the first change of a page after a checkpoint logs.
    pub full_pages: u64,
    /// Tables that it scanned.
    scanned: Vec<String>,
    /// Plan nodes that were set up, with that of the statement itself.
    pub nodes: u64,
    /// Statements that the functions ran.
    pub inner: u64,
    /// Rows that the nodes of all plans answered or dropped; 0 unless rows are counted. A loop over all numbers for each step shows here
    /// and in no count of pages.
    pub rows: u64,
    /// How long the server took. It is printed and never gated.
    pub ms: f64,
    /// Rows that were inserted into `attempts`.
    pub attempts: u64,
    /// Updates of rows of `steps`, and how many of them stayed on their page, so that no index was written.
    pub updates: u64,
    pub hot: u64,
}

/// A connection with its query plans, as the product has them.
pub struct Session {
    client: Client,
    /// Of every statement since the last measurement, the inner ones first; stays empty unless plans are counted.
    plans: Arc<Mutex<Vec<Value>>>,
    pub costs: Vec<Cost>,
}

impl Session {
    pub async fn over(db: &Database) -> Self {
        let (client, mut connection) = db.url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
        let plans = Arc::new(Mutex::new(Vec::new()));
        let noted = plans.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                let AsyncMessage::Notice(notice) = message else { continue };
                noted
                    .lock()
                    .extend(notice.message().split_once("plan:\n").map(|(_, plan)| serde_json::from_str::<Value>(plan).unwrap()));
            }
        });
        Self { client, plans, costs: Vec::new() }
    }

    /// Counts plans from now on. The server sends each as a notice, also those that it set up for a function.
    pub async fn count_plans(&self) {
        let settings = "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
          set auto_explain.log_format = json; set auto_explain.log_level = notice";
        self.client.batch_execute(settings).await.unwrap();
    }

    /// Counts plans and their rows from now on.
    pub async fn count_rows(&self) {
        self.count_plans().await;
        self.client.batch_execute("set auto_explain.log_analyze = on; set auto_explain.log_timing = off").await.unwrap();
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
        let counters = "select coalesce(json_object_agg(relname, json_build_object(
            'scans', seq_scan, 'inserts', n_tup_ins, 'updates', n_tup_upd, 'hot', n_tup_hot_upd)), '{}')
          from pg_stat_xact_user_tables where schemaname = 'tasker'";
        let sql =
            format!("begin; {counters}; explain (analyze, buffers, wal, timing off, format json) {sql}; {counters}; commit");
        self.plans.lock().clear();
        let rows: Vec<Value> = texts(&self.client, &sql).await.iter().map(|r| serde_json::from_str(r).unwrap()).collect();
        let [before, plan, after] = &rows[..] else { panic!("{file}: {rows:?}") };
        let count = |key| plan[0]["Plan"][key].as_u64().unwrap();
        let more = |table: &str, key: &str| counter(after, table, key) - counter(before, table, key);
        // Without those of the two queries of the counters.
        let looked_at = self.plans.lock().iter().map(|plan| rows_of(&plan["Plan"])).sum::<f64>();
        let plans: Vec<u64> = self.plans.lock().iter().map(|plan| nodes(&plan["Plan"])).collect();
        let plans = if plans.is_empty() { &[] } else { &plans[1..plans.len() - 1] };
        self.costs.push(Cost {
            situation,
            statement: format!("{file} ({what})"),
            pages: count("Shared Hit Blocks") + count("Shared Read Blocks"),
            bound,
            log_bytes: count("WAL Bytes"),
            full_pages: count("WAL FPI"),
            scanned: TABLES.into_iter().filter(|table| more(table, "scans") > 0).map(str::to_owned).collect(),
            nodes: plans.iter().sum(),
            inner: plans.len().saturating_sub(1) as u64,
            rows: looked_at as u64,
            ms: plan[0]["Execution Time"].as_f64().unwrap(),
            attempts: more("attempts", "inserts"),
            updates: more("steps", "updates"),
            hot: more("steps", "hot"),
        });
    }

    /// Allows the last statement to start a scan: its bound shows that the scan ends early.
    pub fn may_begin_a_scan(&mut self) {
        if let Some(cost) = self.costs.last_mut() {
            cost.scanned.clear();
        }
    }

    /// Allows the last statement to read all of `in_process`, which is small here: it is planned for each call, so with many rows it looks
    /// them up by key.
    pub fn may_scan_what_is_small(&mut self) {
        if let Some(cost) = self.costs.last_mut() {
            cost.scanned.retain(|table| table != "in_process");
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
        too_many
            .map(|c| format!("{} with {}: {} pages, at most {} are allowed", c.statement, c.situation, c.pages, c.bound))
            .chain(self.costs.iter().filter_map(Cost::scans))
            .collect()
    }
}

impl Cost {
    /// A sentence if it scanned a table.
    pub fn scans(&self) -> Option<String> {
        let tables = self.scanned.join(", ");
        (!tables.is_empty()).then(|| format!("{} with {}: reads all of {tables}", self.statement, self.situation))
    }
}

const TABLES: [&str; 6] = ["tasks", "steps", "attempts", "in_process", "dlq_entries", "audit_log"];

/// A counter of a table, which is absent while the transaction has not used the table.
fn counter(counters: &Value, table: &str, key: &str) -> u64 {
    counters[table][key].as_u64().unwrap_or_default()
}

/// The nodes of a plan, with those of its CTEs and subplans.
fn nodes(plan: &Value) -> u64 {
    1 + plan["Plans"].as_array().into_iter().flatten().map(nodes).sum::<u64>()
}

/// The rows that the nodes of a plan answered or dropped.
fn rows_of(plan: &Value) -> f64 {
    let keys = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter"];
    let own: f64 = keys.iter().filter_map(|key| plan[key].as_f64()).sum();
    let loops = plan["Actual Loops"].as_f64().unwrap_or_default();
    own * loops + plan["Plans"].as_array().into_iter().flatten().map(rows_of).sum::<f64>()
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
