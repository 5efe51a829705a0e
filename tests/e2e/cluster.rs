//! A PostgreSQL of one test, to be stopped, starved and locked under a running system.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A server on a socket in a folder of its own; ended and removed with this value.
pub struct Cluster {
    bin: PathBuf,
    /// In /tmp whatever TMPDIR says: the path of a socket must be short, and the owner must be able to enter.
    dir: TempDir,
    /// A mount under the data.
    mounted: bool,
}

/// What may fail here, and how: nothing outlives the test, so nothing is synced.
const OPTIONS: &str = "-c listen_addresses= -c max_connections=50 -c shared_buffers=16MB -c fsync=off -c jit=off -c timezone=UTC";

impl Cluster {
    /// Makes one and starts it.
    pub fn start() -> Self {
        Self::begin(Self::folder())
    }

    /// The same on a disk of so many megabytes; none where such a disk cannot be made.
    pub fn start_on_a_small_disk(megabytes: u32) -> Option<Self> {
        let mut cluster = Self::folder();
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(cluster.disk()).output();
        cluster.mounted = mount.is_ok_and(|output| output.status.success());
        if !cluster.mounted {
            return None;
        }
        own(&cluster.disk());
        Some(Self::begin(cluster))
    }

    fn folder() -> Self {
        let dir = tempfile::Builder::new().prefix("tasker-test-").tempdir_in("/tmp").unwrap();
        let cluster = Self { bin: programs(), dir, mounted: false };
        fs::create_dir(cluster.disk()).unwrap();
        own(cluster.dir.path());
        own(&cluster.disk());
        cluster
    }

    fn begin(self) -> Self {
        let data = self.data();
        let mut initdb = self.program("initdb");
        initdb.arg("-D").arg(&data);
        initdb.args(["-U", "tasker", "--encoding=UTF8", "--locale=C", "--auth=trust", "--wal-segsize=1", "--no-sync"]);
        succeed(&mut initdb);
        // What a crash throws away is no loss; what it may keep is little on a small disk.
        let text = "min_wal_size = 2MB\nmax_wal_size = 16MB\n";
        let mut settings = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        std::io::Write::write_all(&mut settings, text.as_bytes()).unwrap();
        self.start_again();
        self
    }

    /// The file system that holds the data.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    fn data(&self) -> PathBuf {
        self.disk().join("data")
    }

    /// Where a user reaches it.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@/postgres?host={}", self.dir.path().display())
    }

    /// Starts the server, and waits until it answers.
    pub fn start_again(&self) {
        let options = format!("{OPTIONS} -c unix_socket_directories={}", self.dir.path().display());
        let log = self.dir.path().join("log");
        let mut start = self.program("pg_ctl");
        start.arg("-D").arg(self.data()).arg("-l").arg(&log).args(["-w", "-t", "60", "-o", &options, "start"]);
        // The server would hold a pipe open.
        let status = start.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(log).unwrap_or_default());
    }

    /// Whether the server runs.
    pub fn runs(&self) -> bool {
        self.program("pg_ctl").arg("-D").arg(self.data()).arg("status").output().unwrap().status.success()
    }

    /// Stops the server as a crash does.
    pub fn stop_at_once(&self) {
        succeed(self.program("pg_ctl").arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]));
    }

    /// Carries out statements as the superuser, each on its own.
    pub fn execute(&self, statements: &[&str]) {
        let url = self.url("tasker");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            for statement in statements {
                client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e:?}"));
            }
            drop(client);
            let _ = connection.await;
        });
    }

    /// A program of PostgreSQL, which refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match owner() {
            None => Command::new(path),
            Some(owner) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={owner}"), format!("--regid={}", group(owner))]).arg("--clear-groups").arg(path);
                command
            }
        };
        command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl").arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]).output();
        if self.mounted {
            let _ = Command::new("umount").arg(self.disk()).output();
        }
    }
}

/// The folder of PostgreSQL's programs, found as scripts/with-postgres does.
fn programs() -> PathBuf {
    let named = std::env::var_os("PG_BIN").map(PathBuf::from);
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let asked = asked.and_then(|output| String::from_utf8(output.stdout).ok()).map(|dir| PathBuf::from(dir.trim()));
    let mut debian: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin")).collect();
    debian.sort();
    let mut candidates = named.into_iter().chain(asked).chain(debian.into_iter().rev());
    candidates.find(|bin| bin.join("initdb").exists() && bin.join("pg_ctl").exists()).expect("PostgreSQL is installed")
}

/// Whoever runs the server, where we are root.
fn owner() -> Option<&'static str> {
    if id(&["-u"]) != "0" {
        return None;
    }
    if Command::new("id").args(["-u", "postgres"]).output().unwrap().status.success() { Some("postgres") } else { Some("nobody") }
}

fn group(user: &str) -> String {
    id(&["-g", user])
}

fn id(arguments: &[&str]) -> String {
    let output = Command::new("id").args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn own(path: &Path) {
    if let Some(owner) = owner() {
        succeed(Command::new("chown").arg(owner).arg(path));
    }
}

fn succeed(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {} {}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
}
