//! The files of a private PostgreSQL: their place, their owner, and their creation. This module never starts a server.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::{account::Account, find, tls};
use crate::data_dir::{DataDir, read_line};

/// The only role, which every connection of ours uses.
pub const ROLE: &str = "tasker";
/// The port of a server without a network: only the name of its socket contains it.
const PORT: u16 = 5432;
/// The socket needs no password: only the owner of the files and root can enter its folder. The network, which needs
/// `listen_addresses`, requires TLS and a password.
const ACCESS_RULES: &str = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
/// The file in the data dir that names the folder of a cluster outside of it.
const POINTER: &str = "postgres-is-in";
/// The longest path of a socket's folder: an address has 107 bytes, of which `/.s.PGSQL.5432` takes 14.
const SOCKET_FOLDER_BYTES: usize = 93;

/// Options for a cluster and its server, beside the common ones.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Options of `initdb`.
    pub initdb: Vec<String>,
    /// Settings of the server, as `name=value`. The last one of a name counts.
    pub settings: Vec<String>,
    /// Whether the server also listens on 127.0.0.1, with TLS.
    pub tls: bool,
}

impl Setup {
    /// Syncs nothing to the disk: for data that may be lost in a crash of the machine.
    pub fn unsynced() -> Self {
        let settings = ["fsync=off", "full_page_writes=off"].map(String::from).into();
        Self { initdb: vec!["--no-sync".into()], settings, tls: false }
    }
}

/// An existing cluster that an installed PostgreSQL can read.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub dir: PathBuf,
    pub socket_dir: PathBuf,
    pub log: PathBuf,
    /// Owns the files and runs the server.
    pub account: Account,
    pub postgres: PathBuf,
    pub port: u16,
    pub settings: Vec<String>,
}

impl Cluster {
    /// Finds the cluster of a data dir, or creates one.
    pub async fn open(data: &DataDir, setup: &Setup) -> Result<Self> {
        if let Some(found) = Self::find(data, setup)? {
            return Ok(found);
        }
        let dir = initialise(data, setup).await?;
        Self::at(dir, data, setup)
    }

    /// The cluster of a data dir, if it exists.
    pub fn find(data: &DataDir, setup: &Setup) -> Result<Option<Self>> {
        existing(data)?.map(|dir| Self::at(dir, data, setup)).transpose()
    }

    fn at(dir: PathBuf, data: &DataDir, setup: &Setup) -> Result<Self> {
        let account = Account::owner_of(&dir)?;
        let installed = find::find(find::version_of_data(&dir)?)?;
        let socket_dir = socket_dir(&dir, &account)?;
        let (port, settings_of_tls) = if setup.tls { tls::settings(data, &dir, &account)? } else { (PORT, Vec::new()) };
        let settings = [setup.settings.clone(), settings_of_tls].concat();
        let (log, postgres) = (data.path().join("postgres.log"), installed.bin.join("postgres"));
        Ok(Self { dir, socket_dir, log, account, postgres, port, settings })
    }

    /// Connects through the socket, without a password: see the access rules.
    pub fn url(&self) -> String {
        let url = format!("postgres://{ROLE}@/postgres?host={}", self.socket_dir.display());
        if self.port == PORT { url } else { format!("{url}&port={}", self.port) }
    }

    /// Removes a socket folder outside of the cluster. Opening the cluster creates it again.
    pub fn forget_socket(&self) {
        if self.socket_dir != self.dir {
            // A folder that cannot be removed is empty and harmless.
            let _ = fs::remove_dir(&self.socket_dir);
        }
    }
}

/// The folder of a cluster outside of the data dir.
pub fn outside(data: &DataDir) -> Result<Option<PathBuf>> {
    Ok(read_line(&data.path().join(POINTER))?.map(PathBuf::from))
}

fn existing(data: &DataDir) -> Result<Option<PathBuf>> {
    let Some(outside) = outside(data)? else {
        let inside = data.path().join("postgres");
        return Ok(find::version_of_data(&inside)?.map(|_| inside));
    };
    if find::version_of_data(&outside)?.is_none() {
        bail!(
            "{} says that the database is in {}, but it is not there; to start over, remove {}",
            data.path().join(POINTER).display(),
            outside.display(),
            data.path().display()
        );
    }
    Ok(Some(outside))
}

/// Creates a cluster. It gets its name when it is complete, so a crash never leaves a partial cluster under that name.
async fn initialise(data: &DataDir, setup: &Setup) -> Result<PathBuf> {
    let installed = find::find(None)?;
    let account = Account::for_new()?;
    let inside = data.path().join("postgres");
    let dir = if account.can_enter(data.path()).await { inside.clone() } else { new_outside()? };
    let unfinished = dir.with_added_extension("new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}, left by an interrupted start", unfinished.display()))?;
    }
    make_private_folder(&unfinished, &account)?;
    run_initdb(&installed.bin.join("initdb"), &unfinished, &account, &setup.initdb).await?;
    // initdb created the file: writing keeps its owner and mode.
    fs::write(unfinished.join("pg_hba.conf"), ACCESS_RULES)?;
    fs::rename(&unfinished, &dir).with_context(|| format!("cannot rename {}", unfinished.display()))?;
    if dir != inside {
        write_pointer(data, &dir).context("cannot write to the data dir")?;
    }
    File::open(data.path())?.sync_all()?;
    Ok(dir)
}

/// A new folder name where an unprivileged user can enter. It is random, because a data dir that is removed and created again must
/// start with an empty database.
fn new_outside() -> Result<PathBuf> {
    for parent in ["/var/lib", "/var/tmp"] {
        let dir = Path::new(parent).join(format!("tasker-{}", &Uuid::new_v4().simple().to_string()[..12]));
        if DirBuilder::new().create(&dir).is_ok() {
            fs::remove_dir(&dir).with_context(|| format!("cannot use {}", dir.display()))?;
            return Ok(dir);
        }
    }
    bail!(
        "the user that PostgreSQL runs as cannot enter the data dir, and neither /var/lib nor /var/tmp is writable: give another --data-dir"
    )
}

fn write_pointer(data: &DataDir, dir: &Path) -> std::io::Result<()> {
    let mut file = File::create(data.path().join(POINTER))?;
    writeln!(file, "{}", dir.display())?;
    file.sync_all()
}

fn make_private_folder(dir: &Path, account: &Account) -> Result<()> {
    DirBuilder::new().mode(0o700).create(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    account.take(dir)
}

async fn run_initdb(initdb: &Path, dir: &Path, account: &Account, options: &[String]) -> Result<()> {
    let mut command = account.command(initdb);
    command.arg("-D").arg(dir).args(["-U", ROLE, "--encoding=UTF8", "--locale=C", "--auth=reject", "--no-instructions"]);
    command.args(options);
    let output =
        command.output().await.with_context(|| format!("cannot run {} as the user {}", initdb.display(), account.name))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stderr = stderr
            .lines()
            .rfind(|line| line.contains("error:") || line.contains("FATAL"))
            .or(stderr.lines().last())
            .unwrap_or("nothing");
        bail!("`initdb` could not create a database in {}: {}", dir.display(), stderr.trim());
    }
    Ok(())
}

/// The cluster's own folder, which only its owner can enter; or a folder in /tmp if the socket's address would be too long or need quoting.
fn socket_dir(dir: &Path, account: &Account) -> Result<PathBuf> {
    if fits_an_address(dir) {
        return Ok(dir.to_owned());
    }
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, dir.as_os_str().as_encoded_bytes()).simple().to_string();
    let short = PathBuf::from(format!("/tmp/tasker-{}", &hash[..16]));
    if !short.exists() {
        make_private_folder(&short, account)?;
    }
    // Every user can create files in /tmp, so a folder that others can enter may be an attack.
    if !account.owns(&short) {
        bail!(
            "{} is needed for PostgreSQL's socket, but other users own it or can enter it: remove it, or give a shorter --data-dir",
            short.display()
        );
    }
    Ok(short)
}

fn fits_an_address(dir: &Path) -> bool {
    let bytes = dir.as_os_str().as_encoded_bytes();
    bytes.len() <= SOCKET_FOLDER_BYTES && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_and_plain_paths_hold_a_socket() {
        assert!(fits_an_address(Path::new("/home/a/.tasker/postgres")));
        for path in ["/home/a b/postgres", "/a,b", "/a?b", "/ü", &format!("/{}", "x".repeat(SOCKET_FOLDER_BYTES))] {
            assert!(!fits_an_address(Path::new(path)), "{path}");
        }
    }
}
