//! Registers the templates of a folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use tasker_engine::{Engine, RegisterError};
use tasker_queue::InProcess;
use tasker_wire::limits;

use crate::{Event, template_files};

/// How many template files were found, and how many of their templates are registered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Templates {
    pub files: usize,
    pub registered: usize,
}

/// Registers every template of a folder and its folders. A bad one is reported and skipped.
pub async fn register_all(engine: &Arc<Engine<InProcess>>, dir: &Path, tell: &impl Fn(Event)) -> Result<Templates> {
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
            Ok(_) => templates.registered += 1,
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

/// Tells of registered templates, of this folder or from before, with steps that no worker will run. Nothing else would report it.
pub async fn tell_unserved(engine: &Engine<InProcess>, tell: &impl Fn(Event)) -> Result<()> {
    for (why, templates) in engine.unserved_templates().await? {
        let more = match templates.len().saturating_sub(limits::LISTED_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = templates.iter().take(limits::LISTED_NAMES).cloned().collect::<Vec<_>>().join(", ");
        tell(Event::Warning(format!("work of {named}{more} {why}: give --worker NAME=COMMAND")));
    }
    Ok(())
}
