//! The benchmark's own PostgreSQL: one database per measured engine, and the server's statistics.

use std::{
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio_postgres::{Client, Config, NoTls};

use crate::process;

/// Names the server; `scripts/bench` starts one.
const VARIABLE: &str = "TASKER_TEST_DATABASE_URL";

/// A server of the benchmark's own.
pub struct Server {
    url: String,
    admin: Client,
    /// The process that started all others of the server.
    pub pid: u32,
    /// The version that the server reports.
    pub version: String,
}

/// Statistics of a database since its creation; they only increase.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Statements that clients sent: each is a round trip.
    pub statements: i64,
    /// Transactions that changed something.
    pub commits: i64,
    /// Bytes of the write-ahead log, by the statements.
    pub wal_bytes: i64,
    /// The WAL position in bytes, which includes what the server writes by itself, such as checkpoints.
    pub wal_position: i64,
    /// Full pages in it, after checkpoints.
    pub full_pages: i64,
    /// Pages looked at.
    pub pages: i64,
    /// Of those, pages that were not in the server's memory.
    pub pages_read: i64,
}

impl Server {
    pub async fn find() -> Result<Self> {
        let url = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
        let url = url.with_context(|| format!("{VARIABLE} is not set; run scripts/bench"))?;
        let admin = connect(&url).await?;
        admin.batch_execute("create extension if not exists pg_stat_statements").await.context("the server does not count")?;
        let backend: i32 = admin.query_one("select pg_backend_pid()", &[]).await?.get(0);
        let pid = process::parent(backend.cast_unsigned()).context("the server runs on this machine")?;
        let version = admin.query_one("show server_version", &[]).await?.get(0);
        Ok(Self { url, admin, pid, version })
    }

    /// A setting of the server.
    pub async fn setting(&self, name: &str) -> Result<String> {
        Ok(self.admin.query_one("select current_setting($1)", &[&name]).await?.get(0))
    }

    /// A fresh database; its address.
    pub async fn database(&self, name: &str) -> Result<String> {
        self.admin.batch_execute(&format!("drop database if exists {name} with (force)")).await?;
        self.admin.batch_execute(&format!("create database {name}")).await?;
        Ok(self.address(name))
    }

    /// The same database by TCP, through whatever listens on a port.
    pub fn url_by_port(name: &str, port: u16) -> String {
        format!("postgres://tasker@127.0.0.1:{port}/{name}")
    }

    /// The address of a database.
    pub fn address(&self, name: &str) -> String {
        self.url.replacen("/postgres?", &format!("/{name}?"), 1)
    }

    /// The folder of the server's socket.
    pub fn socket(&self) -> Result<PathBuf> {
        let (_, folder) = self.url.split_once("host=").context("the server is reached by a socket")?;
        Ok(PathBuf::from(folder).join(".s.PGSQL.5432"))
    }

    /// Runs a checkpoint, so that dirty pages are written before a measurement and not during it.
    pub async fn settle(&self) -> Result<()> {
        Ok(self.admin.batch_execute("checkpoint").await?)
    }

    /// The current statistics of a database.
    pub async fn counts(&self, name: &str) -> Result<Counts> {
        let row = self
            .admin
            .query_one(
                "select coalesce(sum(s.calls), 0)::int8, coalesce(sum(s.wal_bytes), 0)::int8, coalesce(sum(s.wal_fpi), 0)::int8,
                   coalesce(sum(s.shared_blks_hit + s.shared_blks_read), 0)::int8, coalesce(sum(s.shared_blks_read), 0)::int8,
                   pg_snapshot_xmax(pg_current_snapshot())::text::int8, (pg_current_wal_insert_lsn() - '0/0')::int8
                 from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1 and s.toplevel",
                &[&name],
            )
            .await?;
        Ok(Counts {
            statements: row.get(0),
            wal_bytes: row.get(1),
            full_pages: row.get(2),
            pages: row.get(3),
            pages_read: row.get(4),
            commits: row.get(5),
            wal_position: row.get(6),
        })
    }

    /// Waits until a query of one boolean returns true.
    pub async fn until(&self, name: &str, question: &str) -> Result<()> {
        let client = connect(&self.address(name)).await?;
        let end = Instant::now() + Duration::from_secs(120);
        while !client.query_one(question, &[]).await?.get::<_, bool>(0) {
            ensure!(Instant::now() < end, "it is still not so: {question}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The statements of a database that took longest together: calls, milliseconds in all, and their text.
    pub async fn statements(&self, name: &str) -> Result<Vec<(i64, f64, String)>> {
        let rows = self
            .admin
            .query(
                "select s.calls, s.total_exec_time, left(regexp_replace(s.query, '\\s+', ' ', 'g'), 80)
                 from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1 and s.toplevel
                 order by 2 desc limit 12",
                &[&name],
            )
            .await?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect())
    }
}

/// A connection.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = Config::from_str(url)?.connect(NoTls).await.context("the database does not answer")?;
    tokio::spawn(connection);
    Ok(client)
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, from: Self) -> Self {
        Self {
            statements: self.statements - from.statements,
            commits: self.commits - from.commits,
            wal_bytes: self.wal_bytes - from.wal_bytes,
            wal_position: self.wal_position - from.wal_position,
            full_pages: self.full_pages - from.full_pages,
            pages: self.pages - from.pages,
            pages_read: self.pages_read - from.pages_read,
        }
    }
}
