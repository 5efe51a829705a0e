//! The orchestrator's tables: what a run wrote into them, and how large they become.

use anyhow::Result;
use serde::Serialize;
use tokio_postgres::Client;

use crate::database::{Server, connect};

/// Of a database since its creation. All zero if it is another engine's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Rows of `attempts`.
    pub attempts: i64,
    /// Updates of rows of `steps`, and those of them that wrote no index. The server counts them with a delay of about a second.
    pub updates: i64,
    pub hot: i64,
}

/// A table with its indexes, or one of its indexes.
#[derive(Debug, Clone, Serialize)]
pub struct Size {
    pub name: String,
    pub bytes: i64,
    /// Rows of the table, or entries of the index; 0 for an index if the server cannot read it.
    pub rows: i64,
    /// Dead rows of the table as the server estimates them, or entries of the index beyond the rows that it should hold.
    pub dead: i64,
}

impl Written {
    pub async fn of(server: &Server, database: &str) -> Result<Self> {
        let client = connect(&server.address(database)).await?;
        let is_ours = "select to_regclass('tasker.attempts') is not null";
        if !client.query_one(is_ours, &[]).await?.get::<_, bool>(0) {
            return Ok(Self::default());
        }
        let row = client
            .query_one(
                "select (select count(*) from tasker.attempts), n_tup_upd, n_tup_hot_upd from pg_stat_user_tables
                 where relid = 'tasker.steps'::regclass",
                &[],
            )
            .await?;
        Ok(Self { attempts: row.get(0), updates: row.get(1), hot: row.get(2) })
    }

    /// The part of the updates since `before` that wrote no index.
    pub fn hot_share(self, before: Self) -> f64 {
        (self.hot - before.hot) as f64 / (self.updates - before.updates).max(1) as f64
    }
}

/// The tables that grow with the tasks, each followed by its indexes. Reads them whole.
pub async fn sizes(client: &Client) -> Result<Vec<Size>> {
    // It comes with the server, but may be packaged apart.
    let counts_entries = client.batch_execute("create extension if not exists pgstattuple").await.is_ok();
    let tables = "select relname::text, pg_total_relation_size(relid), n_dead_tup from pg_stat_user_tables
      where schemaname = 'tasker' and relname in ('tasks', 'steps', 'in_process', 'attempts', 'audit_log') order by 1";
    let indexes = "select c.relname::text, pg_relation_size(c.oid), coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
      from pg_index i join pg_class c on c.oid = i.indexrelid
      where i.indrelid = ('tasker.' || $1::text)::regclass order by 1";
    let mut sizes = Vec::new();
    for table in client.query(tables, &[]).await? {
        let name: String = table.get(0);
        sizes.push(Size {
            bytes: table.get(1),
            rows: count(client, &name, "true").await?,
            dead: table.get(2),
            name: name.clone(),
        });
        for index in client.query(indexes, &[&name]).await? {
            let (index, bytes, which): (String, _, String) = (index.get(0), index.get(1), index.get(2));
            let mut size = Size { name: index, bytes, rows: 0, dead: 0 };
            if counts_entries {
                let entries = "select tuple_count + dead_tuple_count from pgstattuple(('tasker.' || $1::text)::regclass)";
                size.rows = client.query_one(entries, &[&size.name]).await?.get(0);
                size.dead = size.rows - count(client, &name, &which).await?;
            }
            sizes.push(size);
        }
    }
    Ok(sizes)
}

async fn count(client: &Client, table: &str, which: &str) -> Result<i64> {
    Ok(client.query_one(&format!("select count(*) from tasker.{table} where {which}"), &[]).await?.get(0))
}
