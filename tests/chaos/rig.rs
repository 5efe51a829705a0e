//! What stays from seed to seed: a database with a clock that stands still, and the sessions of the proxy.

use std::{collections::HashSet, sync::Arc};

use anyhow::{Context, Result, ensure};
use tasker_engine::Engine;
use tasker_queue::Queue;
use tasker_test_support::{Database, engine_of};
use tokio_postgres::{Client, types::Type};

use crate::{
    driver::Task,
    model::Workflow,
    planted::{Changes, Plant},
    queue::GRID_MS,
    statement_proxy::{Sessions, StatementProxy},
};

/// Connections of a process: two for verbs at once, and one more.
pub const CONNECTIONS: usize = 3;

pub struct Rig {
    pub sql: Client,
    pub sessions: Arc<Sessions>,
    /// A second connection, for use while `sql` holds a lock.
    onlooker: Client,
    registered: HashSet<usize>,
    seeds: usize,
    _db: Database,
}

impl Rig {
    /// A fresh database, with a bug in one place if one is named.
    pub async fn new(plant: Option<(Plant, Changes)>) -> Self {
        let db = tasker_test_support::database().await;
        let (sql, onlooker) = (db.client().await, db.client().await);
        // The clock is a row, which is cheap to change: replacing a function invalidates every query plan. Without a time in it
        // the clock runs, ahead by the interval.
        sql.batch_execute(
            "create table tasker.chaos_clock (at timestamptz, ahead interval not null default '0');
             insert into tasker.chaos_clock values (null);
             create or replace function tasker.clock() returns timestamptz language sql stable
               as 'select coalesce(c.at, now() + c.ahead) from tasker.chaos_clock c';
             alter table tasker.steps set (autovacuum_enabled = off);
             alter table tasker.tasks set (autovacuum_enabled = off);
             alter table tasker.attempts set (autovacuum_enabled = off)",
        )
        .await
        .expect("the clock can be replaced");
        let bugs = match plant {
            Some((plant, place)) => plant.plant(place, &sql).await,
            None => Default::default(),
        };
        let sessions = Sessions::new(&db.url, bugs);
        Self { sql, onlooker, sessions, registered: HashSet::new(), seeds: 0, _db: db }
    }

    /// Deletes the rows of the previous seed, and registers the workflows of this one.
    pub async fn prepare(&mut self, tasks: &[Task]) -> Result<()> {
        // Truncating a table invalidates every query plan, so rows are deleted most of the time.
        self.seeds += 1;
        let empty = if self.seeds.is_multiple_of(16) { "truncate" } else { "delete from" };
        for table in ["tasks", "steps", "in_process", "attempts", "audit_log", "dlq_entries", "batches"] {
            self.sql.batch_execute(&format!("{empty} tasker.{table}")).await?;
        }
        let new: Vec<&Workflow> = tasks.iter().map(|t| &t.workflow).filter(|w| !self.registered.contains(&w.number)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let proxy = StatementProxy::open(&self.sessions);
        let engine = engine(&proxy, tasker_queue::InProcess::default(), 0);
        for workflow in new {
            engine.register_template(workflow.yaml()).await.context("a random workflow is valid")?;
            self.registered.insert(workflow.number);
        }
        drop(engine);
        proxy.close().await;
        Ok(())
    }

    /// Sets the database's clock to this time.
    pub async fn set_clock(&self, ms: u64) -> Result<()> {
        let at = jiff::Timestamp::from_millisecond(ms as i64)?;
        self.sql.execute_typed("update tasker.chaos_clock set at = $1", &[(&at, Type::TIMESTAMPTZ)]).await?;
        Ok(())
    }

    /// How many tasks are running, and the first `wake_at` of their steps, on the grid.
    pub async fn outlook(&self) -> Result<(i64, Option<u64>)> {
        let sql = "select (select count(*) from tasker.tasks where state = 'running'),
            (select ceil(extract(epoch from min(wake_at)) * 1000)::int8 from tasker.steps)";
        let row = self.sql.query_typed(sql, &[]).await?.remove(0);
        Ok((row.get(0), row.get::<_, Option<i64>>(1).map(|ms| (ms as u64).next_multiple_of(GRID_MS))))
    }

    /// Lets the database's clock run, ahead by a number of milliseconds.
    pub async fn run_clock(&self, ahead_ms: i64) -> Result<()> {
        let sql = "update tasker.chaos_clock set at = null, ahead = $1 * interval '1 ms'";
        self.sql.execute_typed(sql, &[(&ahead_ms, Type::INT8)]).await?;
        Ok(())
    }

    /// Looks until so many sessions wait for a lock, or the call has ended. Answers how many wait.
    pub async fn waiting(&self, enough: i64, looks: usize, ended: impl Fn() -> bool) -> Result<i64> {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let mut waiting = 0;
        for _ in 0..looks {
            waiting = self.onlooker.query_typed(sql, &[]).await?[0].get(0);
            if waiting >= enough || ended() {
                break;
            }
        }
        Ok(waiting)
    }

    /// A process whose connection is cut before a commit dies with it.
    pub fn dies_when_cut(&self) -> bool {
        self.sessions.bugs().answer_before_commit
    }

    /// The stored counters and readiness agree with the facts.
    pub async fn examine<Q: Queue>(&self, engine: &Engine<Q>) -> Result<()> {
        let found = engine.examine().await?;
        ensure!(found.differences.is_empty(), "the doctor finds: {:#?}", found.differences);
        Ok(())
    }
}

/// An engine of a process.
pub fn engine<Q: Queue>(proxy: &StatementProxy, queue: Q, seed: u64) -> Arc<Engine<Q>> {
    engine_of(&proxy.url, queue, CONNECTIONS, seed)
}
