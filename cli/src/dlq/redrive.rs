//! `tasker-ctl dlq redrive`.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use tasker_aws::{CallError, queue_of_dead_letters};

use super::{
    filter::Filter,
    look::look,
    moving,
    purge::print_dry_run,
    report::RunReport,
    work::{Action, Run, pace},
};
use crate::{
    deployment::{DeploymentArgs, QueueDeployment, failure},
    error::{CommandError, Exit, Result},
    output::{self, Format, line},
};

/// The default of `--max` for copies.
const MOST: u32 = 10_000;

#[derive(Debug, Args)]
#[command(after_help = super::JSON)]
pub struct RedriveArgs {
    /// Dead letters per second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// Send back at most so many; by default, 10,000 copies
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: Option<u32>,
    /// How: auto, move (a whole queue, by SQS itself) or copy
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Mechanism::Auto)]
    mechanism: Mechanism,
    /// Show the matching dead letters, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation, which happens only on a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mechanism {
    /// `move` where possible, else `copy`.
    Auto,
    Move,
    Copy,
}

pub async fn run(args: &RedriveArgs, deployment: &DeploymentArgs, format: Format) -> Result {
    args.filter.refuse_empty("send back")?;
    if args.mechanism == Mechanism::Move && !args.is_whole_queue() {
        let why = "--mechanism move takes all dead letters of one queue: give --queue, and no other filter or --max";
        return Err(CommandError::usage(format!("{why}, or use --mechanism copy")));
    }
    let deployment = deployment.open().await?;
    let queues = deployment.choose(args.filter.queue.as_deref()).await?;
    for queue in &queues {
        refuse_without_source(&deployment, queue)?;
    }
    let by_move = args.is_whole_queue() && args.mechanism.moves(&deployment, &queues);
    if args.dry_run {
        let most = args.max.unwrap_or(MOST) as usize;
        let found = look(&deployment, &queues, most, |dead_letter| args.filter.matches(dead_letter)).await?;
        let mechanism = if by_move { "move" } else { "copy" };
        return print_dry_run(found, &format!("redriven, by {mechanism}"), json!({ "mechanism": mechanism }), format);
    }
    if !args.yes && !confirmed(&queues)? {
        return Err(CommandError::new(Exit::Error, "nothing was redriven: it was not confirmed"));
    }
    let mut refusal = None;
    if let (true, Some(queue)) = (by_move, queues.first()) {
        match moving::start(&deployment.admin, queue, args.rate).await {
            Ok(moving) => return moving.finish(format).await,
            Err(CallError::Refused(why)) if args.mechanism == Mechanism::Auto => refusal = Some(why),
            Err(error) => return Err(failure(&format!("have SQS move {queue}"), &error)),
        }
    }
    copy(args, &deployment, &queues, refusal, format).await
}

/// `refusal` is SQS's reason for refusing a move.
async fn copy(
    args: &RedriveArgs,
    deployment: &QueueDeployment,
    queues: &[String],
    refusal: Option<String>,
    format: Format,
) -> Result {
    if format == Format::Table {
        let why = match &refusal {
            Some(why) => format!("; SQS does not move the queue: {why}"),
            None if args.mechanism == Mechanism::Auto && args.is_whole_queue() => {
                "; a moved request would lose the id that detects its duplicates".to_owned()
            }
            None => String::new(),
        };
        output::print(&format!("mechanism: copy (receive, send, delete){}", line(&why)))?;
    }
    let mut report = RunReport::new(format, "redriven");
    let left = args.max.unwrap_or(MOST) as usize;
    let run = Run { admin: &deployment.admin, filter: &args.filter, action: Action::Redrive, pace: pace(args.rate), left };
    let ended = run.handle(queues, &mut report).await;
    let reported = report.end(json!({"mechanism": "copy", "move_refused": refusal}));
    ended.and(reported)
}

impl RedriveArgs {
    fn is_whole_queue(&self) -> bool {
        self.filter.is_whole_queue() && self.max.is_none()
    }
}

impl Mechanism {
    /// Whether a whole queue is moved. SQS gives a moved message a new id and drops the old one, which identifies a duplicate request, so
    /// the intake queue is moved only if the operator asks for it.
    fn moves(self, deployment: &QueueDeployment, queues: &[String]) -> bool {
        let intake = format!("{}intake", deployment.admin.queues().prefix());
        let is_intake = queues.iter().any(|queue| queue_of_dead_letters(queue) == Some(&intake));
        self == Self::Move || (self == Self::Auto && !is_intake)
    }
}

fn refuse_without_source(deployment: &QueueDeployment, queue: &str) -> Result {
    let Some(back) = queue_of_dead_letters(queue).filter(|back| !deployment.has(back)) else { return Ok(()) };
    let what = format!("the dead letters of {queue} cannot be sent back, because there is no queue {back}");
    Err(CommandError::new(Exit::Conflict, format!("{what}: create it, or give another --queue")))
}

/// Asks for confirmation on a terminal.
fn confirmed(queues: &[String]) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    let queues = line(&queues.join(", "));
    write!(io::stderr(), "Send the matching dead letters back from {queues}? [y/N] ").context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot ask")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
