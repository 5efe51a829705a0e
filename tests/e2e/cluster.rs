//! The PostgreSQL of one test, which the test stops, starves and locks under a running system.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use tasker_server::postgres::{self, Setup, Stop};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Dropping this stops and removes the server.
pub struct Cluster {
    dir: TempDir,
    /// Whether the data is on a mount of its own.
    mounted: bool,
    runtime: Runtime,
    url: String,
}

impl Cluster {
    /// Makes one and starts it.
    pub fn start() -> Self {
        let mut cluster = Self::folder();
        cluster.url = cluster.begin();
        cluster
    }

    /// The same on a disk of a given size in megabytes. `None` if such a disk cannot be mounted.
    pub fn start_on_a_small_disk(megabytes: u32) -> Option<Self> {
        let mut cluster = Self::folder();
        let options = format!("size={megabytes}m,mode=0711");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(cluster.disk()).output();
        cluster.mounted = mount.is_ok_and(|output| output.status.success());
        if !cluster.mounted {
            return None;
        }
        cluster.url = cluster.begin();
        Some(cluster)
    }

    fn folder() -> Self {
        // In /tmp whatever TMPDIR says: the user that PostgreSQL runs as must be able to enter.
        let permissions = Permissions::from_mode(0o711);
        let dir = tempfile::Builder::new().prefix("tasker-e2e-").permissions(permissions).tempdir_in("/tmp").unwrap();
        let cluster = Self { dir, mounted: false, runtime: Runtime::new().unwrap(), url: String::new() };
        std::fs::create_dir(cluster.disk()).unwrap();
        cluster
    }

    /// The file system that holds the data.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Where a user reaches it.
    pub fn url(&self, user: &str) -> String {
        self.url.replace("//tasker@", &format!("//{user}@"))
    }

    /// Starts the server, and waits until it answers.
    pub fn start_again(&self) {
        self.begin();
    }

    fn begin(&self) -> String {
        let mut setup = Setup::unsynced();
        // Less is kept in reserve, for a small disk.
        setup.initdb.push("--wal-segsize=1".into());
        setup.settings.extend(["shared_buffers=16MB", "min_wal_size=2MB", "max_wal_size=16MB"].map(String::from));
        self.runtime.block_on(postgres::start(&self.disk(), &setup)).unwrap().url
    }

    /// Whether the server runs.
    pub fn runs(&self) -> bool {
        postgres::runs(&self.disk()).unwrap()
    }

    /// Stops the server as a crash does.
    pub fn stop_at_once(&self) {
        self.runtime.block_on(postgres::stop(&self.disk(), Stop::AtOnce)).unwrap();
    }

    /// Carries out statements as the superuser, each in its own transaction.
    pub fn execute(&self, statements: &[&str]) {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            for statement in statements {
                client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
            }
            drop(client);
            let _ = connection.await;
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(postgres::stop(&self.disk(), Stop::AtOnce));
        if self.mounted {
            let _ = Command::new("umount").arg(self.disk()).output();
        }
    }
}
