//! A fresh, migrated database for each test: a copy of a template database that is migrated once for each set of migrations.
//! It never changes or drops a database that it did not create.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use tokio_postgres::{Client, Config, NoTls};

/// Names a server on which databases may be made and dropped.
pub const VARIABLE: &str = "TASKER_TEST_DATABASE_URL";
const PREFIX: &str = "tasker_test_";
/// An arbitrary constant. The holder of this lock creates the template database.
const LOCK: i64 = 0x7461_736b_6572_7465;

/// The database of one test. It is dropped with this value, or by a later test if this process was killed.
pub struct Database {
    /// How to reach it.
    pub url: String,
    server: String,
    name: String,
    offset_ms: AtomicI64,
}

/// A fresh database with this version's schema. Panics with a sentence when there is no server.
pub async fn database() -> Database {
    make().await.unwrap_or_else(|e| panic!("no test database: {e:#}"))
}

impl Database {
    /// A connection of the test, beside those of the product.
    pub async fn client(&self) -> Client {
        connect(&self.url).await.unwrap_or_else(|e| panic!("no connection to the test database: {e:#}"))
    }

    /// Carries out statements without parameters.
    pub async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// Sets the product's clock to so many milliseconds after the server's.
    pub async fn set_clock_offset(&self, ms: i64) {
        self.offset_ms.store(ms, Relaxed);
        // The offset is a constant in the body, so that the function is inlined as the real one is. Replacing it
        // invalidates every cached plan.
        self.execute(&format!(
            "create or replace function tasker.clock() returns timestamptz language sql stable \
             as 'select now() + interval ''{ms} ms'''"
        ))
        .await;
    }

    /// Moves the product's clock on.
    pub async fn advance_clock(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).expect("a test does not last for ages");
        self.set_clock_offset(self.offset_ms.load(Relaxed) + ms).await;
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A thread of its own: a value may be dropped inside a runtime, where blocking is not possible.
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { drop_database(&connect(&server).await?, &name).await })
        });
        // If it fails, a later test drops the database.
        let _ = dropped.join();
    }
}

async fn make() -> Result<Database> {
    let server = std::env::var(VARIABLE).ok().filter(|v| !v.is_empty()).with_context(|| {
        format!("{VARIABLE} is not set; run the tests through ./scripts/test, or one command through scripts/with-postgres")
    })?;
    let admin = connect(&server).await?;
    drop_leftovers(&admin).await?;
    let template = template(&server, &admin).await?;
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{PREFIX}{}_{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    drop_database(&admin, &name).await?;
    admin.batch_execute(&format!("create database {name} template {template}")).await.context("the template cannot be copied")?;
    Ok(Database { url: url_of(&server, &name), server, name, offset_ms: AtomicI64::new(0) })
}

/// The name of the migrated database that all tests copy; made by the first one that needs it.
async fn template(server: &str, admin: &Client) -> Result<String> {
    let name = format!("tasker_template_{}", migrations_hash()?);
    if exists(admin, &name).await? {
        return Ok(name);
    }
    admin.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    if !exists(admin, &name).await? {
        // It gets its final name only when it is complete.
        let raw = format!("{name}_raw");
        drop_database(admin, &raw).await?;
        admin.batch_execute(&format!("create database {raw}")).await?;
        let url = url_of(server, &raw);
        tasker_store::migrate(&url).await.context("the migrations fail")?;
        let status = tasker_store::migration_status(&url).await?;
        ensure!(status.len() == migration_files()?.len(), "tasker-store was built with other migrations; build it again");
        admin.batch_execute(&format!("alter database {raw} rename to {name}")).await?;
    }
    admin.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    Ok(name)
}

/// Drops the databases of test processes that have ended.
async fn drop_leftovers(admin: &Client) -> Result<()> {
    let rows = admin.query("select datname from pg_database where starts_with(datname, $1)", &[&PREFIX]).await?;
    for name in rows.iter().map(|r| r.get::<_, String>(0)) {
        let pid = name[PREFIX.len()..].split('_').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            // Another test may be about to do the same.
            let _ = drop_database(admin, &name).await;
        }
    }
    Ok(())
}

async fn drop_database(admin: &Client, name: &str) -> Result<()> {
    Ok(admin.batch_execute(&format!("drop database if exists {name} with (force)")).await?)
}

async fn exists(admin: &Client, name: &str) -> Result<bool> {
    Ok(!admin.query("select from pg_database where datname = $1", &[&name]).await?.is_empty())
}

async fn connect(url: &str) -> Result<Client> {
    let config = Config::from_str(url).with_context(|| format!("{VARIABLE} is not a libpq URL or key-value string"))?;
    let (client, connection) = config.connect(NoTls).await.context("the server cannot be reached")?;
    tokio::spawn(connection);
    Ok(client)
}

/// `server` with another database.
fn url_of(server: &str, name: &str) -> String {
    let Some((scheme, rest)) = server.split_once("://") else {
        return format!("{server} dbname={name}");
    };
    let (address, query) = rest.split_once('?').map_or((rest, String::new()), |(a, q)| (a, format!("?{q}")));
    let authority = address.split('/').next().unwrap_or_default();
    format!("{scheme}://{authority}/{name}{query}")
}

fn migrations_hash() -> Result<String> {
    let mut hash = Sha256::new();
    for file in migration_files()? {
        hash.update(std::fs::read(file)?);
    }
    Ok(hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect())
}

fn migration_files() -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "sql"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        assert_eq!(url_of("postgres://me@here/postgres?host=/tmp", "x"), "postgres://me@here/x?host=/tmp");
        assert_eq!(url_of("postgres://here", "x"), "postgres://here/x");
        assert_eq!(url_of("host=/tmp user=me", "x"), "host=/tmp user=me dbname=x");
    }

    #[tokio::test]
    async fn each_test_has_its_own_database_and_clock() {
        let (one, other) = (database().await, database().await);
        one.advance_clock(Duration::from_secs(3600)).await;
        let ahead = "select extract(epoch from tasker.clock() - now())::float8";
        assert_eq!(one.client().await.query_one(ahead, &[]).await.unwrap().get::<_, f64>(0), 3600.0);
        assert_eq!(other.client().await.query_one(ahead, &[]).await.unwrap().get::<_, f64>(0), 0.0);
    }

    #[tokio::test]
    async fn a_dropped_database_is_gone() {
        let kept = database().await;
        let name = database().await.name.clone();
        let rows = kept.client().await.query("select from pg_database where datname = $1", &[&name]).await.unwrap();
        assert!(rows.is_empty());
    }
}
