//! `tasker-ctl pause`, `resume` and `pauses`: namespaces and templates whose steps are held.

use std::{convert::Infallible, str::FromStr};

use clap::Args;
use reqwest::Method;
use tasker_wire::rest::{PauseBody, PauseEntry, PauseListResponse, PauseResponse};

use crate::{
    action::{warnings, without_dry_run},
    client::Client,
    error::Result,
    input::default_actor,
    output::{self, Format, counted, line, moment, table},
};

#[derive(Debug, Args)]
pub struct PauseArgs {
    /// A namespace, or one of its templates
    #[arg(value_name = "NAMESPACE[/TEMPLATE]")]
    scope: ScopeName,
    /// The reason; it is shown while the pause lasts
    #[arg(short, long)]
    reason: String,
    /// Who acts
    #[arg(short = 'b', long, visible_alias = "by", default_value_t = default_actor())]
    actor: String,
    /// Change nothing, and show what would change
    #[arg(long)]
    dry_run: bool,
    /// What a dry run printed: act only if that would still do the same
    #[arg(long, value_name = "SEEN", conflicts_with = "dry_run")]
    seen: Option<String>,
}

/// A namespace, and a template if there is one. The server checks the names.
#[derive(Debug, Clone)]
struct ScopeName(Vec<String>);

impl FromStr for ScopeName {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self(text.splitn(2, '/').map(str::to_owned).collect()))
    }
}

impl ScopeName {
    fn path(&self) -> Vec<String> {
        ["v1", "pauses"].into_iter().map(str::to_owned).chain(self.0.iter().cloned()).collect()
    }

    fn shown(&self) -> String {
        named(&self.0[0], self.0.get(1).map(String::as_str))
    }
}

pub async fn pause(args: &PauseArgs, client: &Client, format: Format) -> Result {
    send(Method::PUT, args, client, format).await
}

pub async fn resume(args: &PauseArgs, client: &Client, format: Format) -> Result {
    send(Method::DELETE, args, client, format).await
}

async fn send(method: Method, args: &PauseArgs, client: &Client, format: Format) -> Result {
    let body =
        PauseBody { actor: args.actor.clone(), reason: args.reason.clone(), seen: args.seen.clone(), dry_run: args.dry_run };
    let response = client.send(method, &args.scope.path(), &body).await?;
    output::print_response(&response, format, |response| view(response, &args.scope.shown(), std::env::args()))
}

fn view(response: &PauseResponse, scope: &str, arguments: impl Iterator<Item = String>) -> String {
    let PauseResponse { action, applied, pause, held_steps, .. } = response;
    let steps = counted(held_steps, "step");
    let is_paused = pause.as_ref().map(|pause| format!("{scope} is paused {}", since(pause)));
    let was_paused = pause.as_ref().map(|pause| format!("{scope} was paused {}", since(pause)));
    let sentence = match (action.as_str(), applied) {
        ("resume", true) => format!("{}; {steps} can go on", was_paused.unwrap_or_else(|| format!("{scope} is not paused"))),
        ("resume", false) => format!("{}; {steps} would go on", is_paused.unwrap_or_else(|| format!("{scope} is not paused"))),
        (_, true) => format!("{}; {steps} held", is_paused.unwrap_or_else(|| format!("{scope} is paused"))),
        (_, false) => is_paused.unwrap_or_else(|| format!("{scope} would be paused")),
    };
    let mut view = format!("{sentence}\n");
    view.extend(warnings(&response.warnings));
    if !applied {
        view.push_str(&format!("\nNothing was done. To do it: {}\n", without_dry_run(arguments, Some(&response.seen))));
    }
    view
}

fn since(pause: &PauseEntry) -> String {
    let PauseEntry { actor, reason, created_at, .. } = pause;
    format!("since {} by {}: {}", moment(created_at), line(actor), line(reason))
}

fn named(namespace: &str, template: Option<&str>) -> String {
    match template {
        None => format!("namespace {}", line(namespace)),
        Some(template) => format!("template {}/{}", line(namespace), line(template)),
    }
}

pub async fn list(client: &Client, format: Format) -> Result {
    let response = client.get(&["v1", "pauses"], &()).await?;
    output::print_response(&response, format, listed)
}

fn listed(PauseListResponse { pauses }: &PauseListResponse) -> String {
    if pauses.is_empty() {
        return "nothing is paused".into();
    }
    let row = |pause: &PauseEntry| {
        let template = pause.template.clone().unwrap_or_else(|| "(all)".into());
        vec![pause.namespace.clone(), template, moment(&pause.created_at), pause.actor.clone(), pause.reason.clone()]
    };
    table(&["NAMESPACE", "TEMPLATE", "SINCE", "BY", "REASON"], pauses.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(action: &str, applied: bool, is_paused: bool, held_steps: i64) -> String {
        let entry = PauseEntry {
            actor: "anna".into(),
            reason: "the bank\nis away".into(),
            created_at: "2026-01-02T03:04:05.000000Z".into(),
            ..PauseEntry::default()
        };
        let pause = is_paused.then_some(entry);
        let response = PauseResponse { action: action.into(), applied, pause, held_steps, seen: "5ee4".into(), warnings: vec![] };
        let arguments = ["tasker-ctl", action, "--dry-run", "shop"].into_iter().map(str::to_owned);
        view(&response, "namespace shop", arguments)
    }

    #[test]
    fn a_pause_and_its_end_are_said_in_one_sentence() {
        let since = r"since 2026-01-02 03:04:05Z by anna: the bank\nis away";
        assert_eq!(shown("pause", true, true, 2), format!("namespace shop is paused {since}; 2 steps held\n"));
        assert_eq!(shown("resume", true, true, 1), format!("namespace shop was paused {since}; 1 step can go on\n"));
        assert_eq!(shown("resume", true, false, 0), "namespace shop is not paused; 0 steps can go on\n");
        let line = |action: &str| format!("\n\nNothing was done. To do it: tasker-ctl {action} --seen 5ee4 shop\n");
        assert_eq!(shown("pause", false, false, 0), format!("namespace shop would be paused{}", line("pause")));
        assert_eq!(
            shown("resume", false, true, 3),
            format!("namespace shop is paused {since}; 3 steps would go on{}", line("resume"))
        );
    }

    #[test]
    fn a_scope_is_a_namespace_or_a_template_of_it() {
        let scope = |text: &str| text.parse::<ScopeName>().unwrap();
        assert_eq!((scope("shop").path().len(), scope("shop").shown().as_str()), (3, "namespace shop"));
        assert_eq!(scope("shop/a/b").path()[3], "a/b");
        assert_eq!(scope("shop/order").shown(), "template shop/order");
    }
}
