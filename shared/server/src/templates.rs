//! Registers the templates of a folder.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use tasker_domain::template;
use tasker_engine::{Engine, RegisterError};
use tasker_queue::InProcess;

use crate::{Event, WorkerCommand};

/// Registers every template of a folder. A bad one is reported and skipped. Returns the number of registered templates.
pub async fn register_all(
    engine: &Arc<Engine<InProcess>>,
    dir: &Path,
    workers: &[WorkerCommand],
    tell: &impl Fn(Event),
) -> Result<usize> {
    let warn = |text: String| tell(Event::Warning(text));
    let files = yaml_files(dir).with_context(|| format!("the templates folder {} cannot be read", dir.display()))?;
    let mut registered = 0;
    for file in &files {
        let shown = file.display();
        let yaml = match std::fs::read_to_string(file) {
            Ok(yaml) => yaml,
            Err(e) => {
                warn(format!("{shown}: cannot be read: {e}"));
                continue;
            }
        };
        match engine.register_template(&yaml).await {
            Ok(_) => {
                registered += 1;
                for pool in pools_without_a_worker(&yaml, workers) {
                    warn(format!("{shown}: steps of the pool {pool} will wait, because no --worker {pool}=COMMAND is given"));
                }
            }
            Err(RegisterError::Store(e)) => bail!(e),
            Err(RegisterError::Invalid(faults)) => faults.0.iter().for_each(|fault| warn(format!("{shown}: {fault}"))),
            Err(e) => warn(format!("{shown}: {e}")),
        }
    }
    if registered < files.len() {
        let missing = files.len() - registered;
        warn(format!("{missing} of {} templates were not registered; fix them and start again", files.len()));
    }
    Ok(registered)
}

/// The template files of a folder, sorted by name.
pub fn yaml_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries: std::io::Result<Vec<_>> = std::fs::read_dir(dir)?.collect();
    let mut files: Vec<PathBuf> = entries?.into_iter().map(|e| e.path()).collect();
    files.retain(|f| f.is_file() && f.extension().is_some_and(|e| e == "yaml" || e == "yml"));
    files.sort();
    Ok(files)
}

/// Pools without a worker. Their steps would wait indefinitely, and nothing else would report it.
fn pools_without_a_worker(yaml: &str, workers: &[WorkerCommand]) -> HashSet<String> {
    let Ok((template, _)) = template::parse(yaml) else { return HashSet::new() };
    let named = template.steps.iter().filter_map(|s| s.worker.clone());
    named.filter(|pool| !workers.iter().any(|w| w.pool == *pool)).collect()
}
