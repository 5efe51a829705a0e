//! `tasker-ctl dlq redrive`.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde_json::json;
use tasker_aws::{CallError, queue_of_dead_letters};

use super::{
    filter::Filter,
    look::look,
    moving,
    purge::rehearsed,
    report::Report,
    work::{Deed, Work, pace},
};
use crate::{
    deployment::{Deployment, Which, failure},
    error::{CommandError, Exit, Result},
    output::{self, Format, line},
};

/// Letters that are redriven without a `--max`, by copies.
const MOST: u32 = 10_000;
/// What is said where `auto` moves nothing.
const WHY_INTAKE_IS_COPIED: &str = "a moved request would lose the id by which its duplicates are known";

/// Which letters to send back, and how.
#[derive(Debug, Args)]
#[command(after_help = super::JSON)]
pub struct Redrive {
    /// Letters a second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    rate: u32,
    /// Send back at most so many; without it 10,000, where copies are sent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max: Option<u32>,
    /// How: auto, move (a whole queue, by SQS itself) or copy
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Mechanism::Auto)]
    mechanism: Mechanism,
    /// Show which letters match, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask; off a terminal nobody is asked
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    filter: Filter,
}

/// How letters get back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mechanism {
    /// `move` where it can be, else `copy`.
    Auto,
    /// SQS does it.
    Move,
    /// Received, sent, deleted.
    Copy,
}

/// Runs the command.
pub async fn run(what: &Redrive, deployment: &Which, format: Format) -> Result {
    what.filter.refuse_empty("send back")?;
    if what.mechanism == Mechanism::Move && !what.is_whole_queue() {
        let why = "--mechanism move takes all letters of one queue: give --queue, and no other filter or --max";
        return Err(CommandError::usage(format!("{why}, or take --mechanism copy")));
    }
    let deployment = deployment.open().await?;
    let queues = deployment.choose(what.filter.queue.as_deref()).await?;
    for queue in &queues {
        refuse_homeless(&deployment, queue)?;
    }
    let by_move = what.is_whole_queue() && what.mechanism.moves(&deployment, &queues);
    if what.dry_run {
        let most = what.max.unwrap_or(MOST) as usize;
        let found = look(&deployment, &queues, most, |letter| what.filter.takes(letter)).await?;
        let mechanism = if by_move { "move" } else { "copy" };
        return rehearsed(found, &format!("redriven, by {mechanism}"), json!({ "mechanism": mechanism }), format);
    }
    if !what.yes && !confirmed(&queues)? {
        return Err(CommandError::new(Exit::Error, "nothing was redriven: it was not confirmed"));
    }
    let mut refusal = None;
    if let (true, Some(queue)) = (by_move, queues.first()) {
        match moving::start(&deployment.depot, queue, what.rate).await {
            Ok(moving) => return moving.finish(format).await,
            Err(CallError::Refused(why)) if what.mechanism == Mechanism::Auto => refusal = Some(why),
            Err(error) => return Err(failure(&format!("have SQS move {queue}"), &error)),
        }
    }
    copy(what, &deployment, &queues, refusal, format).await
}

/// `refusal` is why SQS does not move the queue, where it was asked to.
async fn copy(what: &Redrive, deployment: &Deployment, queues: &[String], refusal: Option<String>, format: Format) -> Result {
    if format == Format::Table {
        let why = match &refusal {
            Some(why) => format!("; SQS does not move the queue: {why}"),
            None if what.mechanism == Mechanism::Auto && what.is_whole_queue() => format!("; {WHY_INTAKE_IS_COPIED}"),
            None => String::new(),
        };
        output::print(&format!("mechanism: copy (receive, send, delete){}", line(&why)))?;
    }
    let mut report = Report::new(format, "redriven");
    let (filter, left) = (&what.filter, what.max.unwrap_or(MOST) as usize);
    let work = Work { depot: &deployment.depot, filter, deed: Deed::Redrive, pace: pace(what.rate), left };
    let worked = work.run(queues, &mut report).await;
    let reported = report.end(json!({"mechanism": "copy", "move_refused": refusal}));
    worked.and(reported)
}

impl Redrive {
    /// Whether it is about all letters of one queue, as a move is.
    fn is_whole_queue(&self) -> bool {
        self.filter.is_whole_queue() && self.max.is_none()
    }
}

impl Mechanism {
    /// Whether a whole queue is moved. SQS gives what it moves a new id and does not say the old one, by which intake knows a request
    /// that it took in before: only who asks for that gets it.
    fn moves(self, deployment: &Deployment, queues: &[String]) -> bool {
        let intake = format!("{}intake", deployment.depot.queues().prefix());
        let is_intake = queues.iter().any(|queue| queue_of_dead_letters(queue) == Some(&intake));
        self == Self::Move || (self == Self::Auto && !is_intake)
    }
}

fn refuse_homeless(deployment: &Deployment, queue: &str) -> Result {
    match queue_of_dead_letters(queue).filter(|back| !deployment.has(back)) {
        None => Ok(()),
        Some(back) => {
            let remedy = "create it, or give the --queue of another";
            let what = format!("the letters of {queue} cannot go back, for there is no queue {back}: {remedy}");
            Err(CommandError::new(Exit::Conflict, what))
        }
    }
}

/// Asks, where there is somebody to ask.
fn confirmed(queues: &[String]) -> Result<bool> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    let unable = |error: io::Error| CommandError::new(Exit::Error, format!("cannot ask: {error}"));
    write!(io::stderr(), "Send the letters that match back from {}? [y/N] ", line(&queues.join(", "))).map_err(unable)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(unable)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
