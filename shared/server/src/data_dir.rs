//! The folder of a private PostgreSQL. It is locked while a [`DataDir`] exists, so it has one user at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context, Result, bail};

pub struct DataDir {
    path: PathBuf,
    // The kernel releases the lock whenever the process ends. Children do not inherit it, because the file is closed on exec.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if it is missing, and locks it.
    pub fn open(path: &Path) -> Result<Self> {
        // 0711 and not 0700: if we are root, PostgreSQL runs as another user, who must be able to enter.
        DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .with_context(|| format!("cannot create the data dir {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot find the data dir {}", path.display()))?;
        let lock = lock(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// An absolute path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write to the data dir {}", dir.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            bail!("the data dir {} is in use by {}; stop it or give another --data-dir", dir.display(), holder(&mut file))
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())?;
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".into(),
    }
}

/// Reads a one-line file of the data dir. `None` if it does not exist.
pub fn read_line(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_gets_the_process_that_has_the_folder_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let refusal = DataDir::open(dir.path()).err().unwrap().to_string();
        let expected = format!("is in use by process {}; stop it or give another --data-dir", process::id());
        assert!(refusal.contains(&expected), "{refusal}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_file_is_not_a_data_dir() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = DataDir::open(file.path()).err().unwrap().to_string();
        assert!(refusal.contains("cannot create the data dir"), "{refusal}");
    }
}
