//! Registers the templates of a folder.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use tasker_domain::template::Template;
use tasker_engine::{Engine, RegisterError};
use tasker_queue::InProcess;

use crate::{Event, WorkerCommand, template_files};

/// How many template files were found, and how many of their templates are registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Templates {
    pub files: usize,
    pub registered: usize,
}

/// Registers every template of a folder and its folders. A bad one is reported and skipped.
pub async fn register_all(
    engine: &Arc<Engine<InProcess>>,
    dir: &Path,
    workers: &[WorkerCommand],
    tell: &impl Fn(Event),
) -> Result<Templates> {
    let warn = |text: String| tell(Event::Warning(text));
    if let Err(error) = std::fs::read_dir(dir) {
        bail!("the templates folder {} cannot be read: {error}", dir.display());
    }
    let found = template_files(&[PathBuf::from(dir)]);
    let mut templates = Templates { files: found.len(), registered: 0 };
    for file in found {
        let shown = file.path.display();
        if let Some(refusal) = file.refusal {
            warn(format!("{shown}: {refusal}"));
            continue;
        }
        match engine.register_template(&file.text).await {
            Ok(_) => {
                templates.registered += 1;
                for pool in file.parsed.iter().flat_map(|(template, _)| pools_without_a_worker(template, workers)) {
                    warn(format!("{shown}: steps of the pool {pool} will wait, because no --worker {pool}=COMMAND is given"));
                }
            }
            Err(RegisterError::Store(e)) => bail!(e),
            Err(RegisterError::Invalid(faults)) => faults.0.iter().for_each(|fault| warn(format!("{shown}: {fault}"))),
            Err(e) => warn(format!("{shown}: {e}")),
        }
    }
    match templates {
        Templates { files: 0, .. } => warn(format!("{} has no template: no file ends in .yaml or .yml", dir.display())),
        Templates { files, registered } if registered < files => {
            warn(format!("{} of {files} templates were not registered; fix them and start again", files - registered));
        }
        Templates { .. } => {}
    }
    Ok(templates)
}

/// Pools without a worker. Their steps would wait indefinitely, and nothing else would report it.
fn pools_without_a_worker(template: &Template, workers: &[WorkerCommand]) -> HashSet<String> {
    let named = template.steps.iter().filter_map(|s| s.worker.clone());
    named.filter(|pool| !workers.iter().any(|w| w.pool == *pool)).collect()
}
