//! Reads dead letters without taking them out of their queues.

use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tasker_aws::{QueueAdmin, SqsMessage};

use super::{
    dead_letter::DeadLetter,
    scan::{Scan, Seen},
};
use crate::{deployment::QueueDeployment, error::Result};

/// What there is beyond the reported dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remaining {
    /// More of them match.
    pub more: bool,
    /// A scan ended before it surely saw its whole queue, so more may match.
    pub cut_short: bool,
}

impl Remaining {
    /// For people: the remark for more matches, or for possibly more.
    pub fn remark(self, more: &'static str, maybe: &'static str) -> &'static str {
        match self {
            Self { more: true, .. } => more,
            Self { cut_short: true, .. } => maybe,
            _ => "",
        }
    }

    /// For programs: both cases need another run.
    pub fn add_to(self, document: &mut Value) {
        document["more"] = json!(self.more || self.cut_short);
        document["cut_short"] = json!(self.cut_short);
    }
}

pub struct Matches {
    /// By queue, oldest first.
    pub dead_letters: Vec<(DeadLetter, SqsMessage)>,
    pub remaining: Remaining,
}

/// At most `most` matching dead letters of these queues.
pub async fn look(
    deployment: &QueueDeployment,
    queues: &[String],
    most: usize,
    matches: impl Fn(&DeadLetter) -> bool,
) -> Result<Matches> {
    let scans = queues.iter().map(|queue| scan(&deployment.admin, queue, most, &matches));
    let (mut dead_letters, mut remaining) = (Vec::new(), Remaining::default());
    for found in try_join_all(scans).await? {
        dead_letters.extend(found.dead_letters);
        remaining.cut_short |= found.remaining.cut_short;
    }
    dead_letters.sort_by(|(a, _), (b, _)| (&a.queue, a.sent_at, &a.message_id).cmp(&(&b.queue, b.sent_at, &b.message_id)));
    remaining.more = dead_letters.len() > most;
    dead_letters.truncate(most);
    Ok(Matches { dead_letters, remaining })
}

async fn scan(admin: &QueueAdmin, queue: &str, most: usize, matches: &impl Fn(&DeadLetter) -> bool) -> Result<Matches> {
    let mut scan = Scan::new(admin, queue);
    let found = collect(&mut scan, queue, most, matches).await;
    // The messages become visible also after a failure, and before the next look.
    scan.end().await;
    found
}

async fn collect(scan: &mut Scan<'_>, queue: &str, most: usize, matches: &impl Fn(&DeadLetter) -> bool) -> Result<Matches> {
    let (mut seen, mut dead_letters) = (Seen::default(), Vec::new());
    // One more than wanted shows that there are more.
    while dead_letters.len() <= most {
        let fresh = scan.next(&mut seen).await?;
        if fresh.is_empty() {
            break;
        }
        for message in fresh {
            scan.keep(&message);
            let dead_letter = DeadLetter::new(queue, &message, Timestamp::now());
            if matches(&dead_letter) {
                dead_letters.push((dead_letter, message));
            }
        }
    }
    Ok(Matches { dead_letters, remaining: Remaining { more: false, cut_short: scan.is_cut() } })
}
