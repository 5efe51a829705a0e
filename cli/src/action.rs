//! Operator actions: what they would do, and what they did.

use clap::Args;
use reqwest::Method;
use serde_json::value::RawValue;
use tasker_wire::rest::{ActionBody, ActionResponse, StepEffect};

use crate::{
    client::Client,
    error::Result,
    input::default_actor,
    output::{self, Format},
};

/// Who acts, why, and on what condition.
#[derive(Debug, Args)]
pub struct ActionArgs {
    /// The reason, for the audit log
    #[arg(short, long)]
    reason: String,
    /// Who acts, for the audit log
    #[arg(short = 'b', long, visible_alias = "by", default_value_t = default_actor())]
    actor: String,
    /// Change nothing, and show what would change
    #[arg(long)]
    dry_run: bool,
    /// Act only if it does what the dry run with this digest showed
    #[arg(long, value_name = "DIGEST")]
    seen: Option<String>,
}

/// The parts of an action on a step that only some actions have.
#[derive(Default)]
pub struct Given {
    pub inputs: Option<Box<RawValue>>,
    pub result: Option<Box<RawValue>>,
}

/// Asks the server for an action on what the path names, and shows which steps it changes.
pub async fn act(client: &Client, path: &[String], action: &str, args: &ActionArgs, given: Given, format: Format) -> Result {
    let ActionArgs { reason, actor, dry_run, seen } = args;
    let request = ActionBody {
        action: action.to_owned(),
        actor: actor.clone(),
        reason: reason.clone(),
        inputs: given.inputs,
        result: given.result,
        seen: seen.clone(),
        dry_run: *dry_run,
        ..ActionBody::default()
    };
    let path: Vec<String> = path.iter().cloned().chain(["actions".to_owned()]).collect();
    let response = client.send(Method::POST, &path, &request).await?;
    output::print_response(&response, format, view)
}

fn view(response: &ActionResponse) -> String {
    let steps = response.steps.iter().map(|step| format!("  {}", effect(step)));
    let (what, how) = match (response.applied, response.steps.len()) {
        (true, 0) => ("done: no step changed".to_owned(), None),
        (true, steps) => (format!("done: {} changed", count(steps)), None),
        (false, 0) => ("would change no step".to_owned(), None),
        (false, steps) => (
            format!("would change {}", count(steps)),
            Some(format!("to do exactly this, repeat it with --seen {}", response.seen)),
        ),
    };
    let warnings = response.warnings.iter().map(|warning| format!("warning: {}", output::line(warning)));
    [what].into_iter().chain(steps).chain(warnings).chain(how).collect::<Vec<_>>().join("\n")
}

fn count(steps: usize) -> String {
    if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") }
}

fn effect(StepEffect { name, from_state, to_state, .. }: &StepEffect) -> String {
    let (name, to) = (output::line(name), output::line(&to_state.to_string()));
    match from_state.as_ref().map(|state| output::line(&state.to_string())) {
        None => format!("{name}: made, {to}"),
        Some(from) if from == to => format!("{name}: {to} anew"),
        Some(from) => format!("{name}: {from} -> {to}"),
    }
}
