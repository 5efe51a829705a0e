//! `tasker-ctl template …`: checks workflow templates without a server, registers them, and shows registered ones.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use semver::Version;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tasker_domain::did_you_mean;
use tasker_server::{TemplateFile, template_files};
use tasker_wire::{
    Fault,
    rest::{RegisteredTemplate, StepDefinition, TemplateDetail, TemplateListResponse, TemplateSummary},
};

use crate::{
    client::Client,
    error::{CommandError, Exit, Result},
    output::{self, Format, fields, line, table},
};

#[derive(Debug, Subcommand)]
pub enum TemplateCommand {
    /// Check template files; needs no server
    Validate(TemplateFiles),
    /// Register templates
    Register(TemplateFiles),
    /// List registered templates
    List(TemplateListArgs),
    /// Show a registered template
    Show(ShowTemplateArgs),
}

#[derive(Debug, Args)]
pub struct TemplateFiles {
    /// YAML files, or folders of them and of such folders
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args, Serialize)]
pub struct TemplateListArgs {
    /// Only templates of this namespace
    #[arg(short, long)]
    namespace: Option<String>,
}

#[derive(Debug, Args)]
pub struct ShowTemplateArgs {
    /// The template's name
    name: String,
    /// The template's namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The template's version; the highest one by default
    #[arg(short, long)]
    version: Option<String>,
}

/// Checks files. Faults are the result of this command, so they go to stdout.
fn validate(files: &TemplateFiles, format: Format) -> Result {
    let checks: Vec<Check> = found(files)?.into_iter().map(check).collect();
    output::print_document(&checks, format, || checks.iter().map(Check::view).collect::<Vec<_>>().join("\n"))?;
    let bad = checks.iter().filter(|check| !check.valid).count();
    match bad {
        0 => Ok(()),
        _ => Err(CommandError::new(Exit::Error, format!("{bad} of {} templates cannot be registered", checks.len()))),
    }
}

#[derive(Serialize)]
struct Check {
    file: String,
    valid: bool,
    faults: Vec<Fault>,
    notes: Vec<Fault>,
}

fn check(TemplateFile { path, refusal, parsed, .. }: TemplateFile) -> Check {
    let (found, notes) = match parsed {
        Ok((_, notes)) => (Vec::new(), notes),
        Err(faults) => (faults.0, Vec::new()),
    };
    let faults: Vec<Fault> = refusal.map(|why| Fault::new("", why)).into_iter().chain(found).collect();
    Check { file: path.display().to_string(), valid: faults.is_empty(), faults, notes }
}

impl Check {
    fn view(&self) -> String {
        let faults = self.faults.iter().map(|fault| format!("{}: {}", line(&self.file), line(&fault.to_string())));
        let notes = self.notes.iter().map(|note| format!("{}: note: {}", line(&self.file), line(&note.to_string())));
        let verdict = self.valid.then(|| format!("{}: valid", line(&self.file)));
        faults.chain(notes).chain(verdict).collect::<Vec<_>>().join("\n")
    }
}

/// The files, and those in the folders and their folders.
fn found(files: &TemplateFiles) -> Result<Vec<TemplateFile>> {
    let found = template_files(&files.files);
    if found.is_empty() {
        return Err(CommandError::usage("no template found: expected files that end in .yaml or .yml"));
    }
    Ok(found)
}

pub async fn run(command: &TemplateCommand, client: &Client, format: Format) -> Result {
    match command {
        TemplateCommand::Validate(files) => validate(files, format),
        TemplateCommand::Register(files) => register(files, client, format).await,
        TemplateCommand::List(args) => output::print_response(&client.get(&["v1", "templates"], args).await?, format, templates),
        TemplateCommand::Show(args) => show(args, client, format).await,
    }
}

/// Registers one file after the other. A bad one does not stop the others. The exit code is that of the first failure.
async fn register(files: &TemplateFiles, client: &Client, format: Format) -> Result {
    let (mut answers, mut failure) = (Vec::new(), None);
    for TemplateFile { path, text, refusal, .. } in found(files)? {
        let registered = match refusal {
            Some(why) => Err(CommandError::new(Exit::Error, why)),
            None => register_one(text, client, format).await,
        };
        match registered {
            Ok(answer) => answers.push(answer),
            Err(one) if one.exit == Exit::Unavailable => return Err(one),
            Err(one) => {
                // The last failure ends the command, so earlier ones are reported here.
                failure.iter().for_each(output::report);
                let exit = failure.map_or(one.exit, |earlier: CommandError| earlier.exit);
                failure = Some(CommandError::new(exit, format!("{}: {}", line(&path.display().to_string()), one.message)));
            }
        }
    }
    if format == Format::Json {
        output::print_json(&serde_json::to_string(&answers).expect("JSON texts serialize"))?;
    }
    failure.map_or(Ok(()), Err)
}

async fn register_one(text: String, client: &Client, format: Format) -> Result<Box<RawValue>> {
    let answer = client.post_yaml(&["v1", "templates"], text).await?;
    if format == Format::Table {
        let RegisteredTemplate { namespace, name, version, revision, created, notes } = answer.read()?;
        let what = if created { "registered" } else { "unchanged" };
        output::print(&format!("{what}: {} {} in {}, revision {revision}", line(&name), line(&version), line(&namespace)))?;
        for note in notes {
            output::print(&format!("  note: {}", line(&note.to_string())))?;
        }
    }
    answer.read()
}

fn templates(TemplateListResponse { templates, .. }: &TemplateListResponse) -> String {
    if templates.is_empty() {
        return "no templates".into();
    }
    let row = |t: &TemplateSummary| {
        let description = output::shortened(t.description.as_deref().unwrap_or_default(), 80);
        vec![t.namespace.clone(), t.name.clone(), t.version.clone(), t.step_count.to_string(), description]
    };
    table(&["NAMESPACE", "NAME", "VERSION", "STEPS", "DESCRIPTION"], templates.iter().map(row))
}

async fn show(args: &ShowTemplateArgs, client: &Client, format: Format) -> Result {
    let version = if let Some(version) = &args.version { version.clone() } else { highest(args, client).await? };
    let response = client.get(&["v1", "templates", &args.namespace, &args.name, &version], &()).await?;
    output::print_response(&response, format, detail)
}

/// The highest released version, which a task without a version gets.
async fn highest(args: &ShowTemplateArgs, client: &Client) -> Result<String> {
    let query = TemplateListArgs { namespace: Some(args.namespace.clone()) };
    let TemplateListResponse { templates, .. } = client.get(&["v1", "templates"], &query).await?.read()?;
    let versions = templates.iter().filter(|t| t.name == args.name).filter_map(|t| Version::parse(&t.version).ok());
    let Some(version) = versions.filter(|version| version.pre.is_empty()).max() else {
        let near = did_you_mean(&args.name, templates.iter().map(|t| t.name.as_str()));
        let (name, namespace) = (line(&args.name), line(&args.namespace));
        let message = format!("there is no template {name} in {namespace} with a released version{}", line(&near));
        return Err(CommandError::new(Exit::NotFound, message));
    };
    Ok(version.to_string())
}

fn detail(template: &TemplateDetail) -> String {
    let head = fields(&[
        ("template", template.name.clone()),
        ("namespace", template.namespace.clone()),
        ("version", template.version.clone()),
        ("revision", template.revision.map(|revision| revision.to_string()).unwrap_or_default()),
        ("description", template.description.clone().unwrap_or_default()),
    ]);
    let configuration = template.configuration.as_ref().and_then(|text| serde_json::from_str(text.get()).ok());
    let configuration: Value = configuration.unwrap_or_default();
    let row = |step: &StepDefinition| {
        let attempts = if step.default_retryable { step.default_max_attempts } else { 1 };
        let (handler, parents) = definition(&configuration, &step.name);
        vec![step.name.clone(), handler, attempts.to_string(), parents]
    };
    format!("{head}\n{}", table(&["STEP", "HANDLER", "ATTEMPTS", "AFTER"], template.steps.iter().map(row)))
}

/// The handler and parents of a step, if the response has the definition.
fn definition(configuration: &Value, step: &str) -> (String, String) {
    let steps = configuration["steps"].as_array();
    let Some(step) = steps.into_iter().flatten().find(|s| s["name"] == step) else { return Default::default() };
    let parents = step["dependencies"].as_array().into_iter().flatten().filter_map(Value::as_str);
    (step["handler"]["callable"].as_str().unwrap_or_default().to_owned(), parents.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_templates_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = TemplateFiles { files: vec![dir.path().to_owned()] };
        assert_eq!(found(&files).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn every_fault_is_a_line_with_its_file_and_place() {
        let check = Check {
            file: "a.yaml".into(),
            valid: false,
            faults: vec![Fault::new("/name", "is missing"), Fault::new("3:1", "is\u{1b}not YAML")],
            notes: vec![Fault::new("/schema", "has no effect")],
        };
        assert_eq!(
            check.view(),
            "a.yaml: /name: is missing\na.yaml: 3:1: is\\u{1b}not YAML\na.yaml: note: /schema: has no effect"
        );
    }

    #[test]
    fn a_template_is_shown_with_its_handlers_and_edges_where_they_are_known() {
        let shown = detail(
            &serde_json::from_value(serde_json::json!({"name": "order", "namespace": "shop", "version": "1.0.0",
                "steps": [{"name": "a", "default_retryable": true, "default_max_attempts": 3}, {"name": "b", "default_retryable": false}],
                "configuration": {"steps": [{"name": "b", "handler": {"callable": "do_b"}, "dependencies": ["a"]}]}}))
            .unwrap(),
        );
        assert!(shown.lines().any(|line| line.split_whitespace().eq(["b", "do_b", "1", "a"])), "{shown}");
    }
}
