//! Looks at dead letters and leaves them where they are.

use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tasker_aws::{QueueAdmin, SqsMessage};

use super::{
    letter::Summary,
    scan::{Known, Scan},
};
use crate::{
    deployment::{Deployment, failure},
    error::Result,
};

/// What there is beyond the letters that are told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// There are others of the kind.
    pub more: bool,
    /// A walk was given up before it was sure to have seen all of its queue: there may be others.
    pub cut_short: bool,
}

impl Rest {
    /// For people: what is said when there are more, or may be.
    pub fn told(self, more: &'static str, maybe: &'static str) -> &'static str {
        match self {
            Self { more: true, .. } => more,
            Self { cut_short: true, .. } => maybe,
            _ => "",
        }
    }

    /// For programs: a run that was cut short is to be repeated as one that left some.
    pub fn tell(self, shown: &mut Value) {
        shown["more"] = json!(self.more || self.cut_short);
        shown["cut_short"] = json!(self.cut_short);
    }
}

/// What was found.
pub struct Found {
    /// Those that were asked for: by queue, the oldest first.
    pub letters: Vec<(Summary, SqsMessage)>,
    /// What else there is.
    pub rest: Rest,
}

/// At most `most` letters of these queues that `takes` takes, and whether there are more.
pub async fn look(deployment: &Deployment, queues: &[String], most: usize, takes: impl Fn(&Summary) -> bool) -> Result<Found> {
    let walks = queues.iter().map(|queue| walk(&deployment.depot, queue, most, &takes));
    let (mut letters, mut rest) = (Vec::new(), Rest::default());
    for found in try_join_all(walks).await? {
        letters.extend(found.letters);
        rest.cut_short |= found.rest.cut_short;
    }
    letters.sort_by(|(a, _), (b, _)| (&a.queue, a.sent_at, &a.message_id).cmp(&(&b.queue, b.sent_at, &b.message_id)));
    rest.more = letters.len() > most;
    letters.truncate(most);
    Ok(Found { letters, rest })
}

async fn walk(depot: &QueueAdmin, queue: &str, most: usize, takes: &impl Fn(&Summary) -> bool) -> Result<Found> {
    let mut scan = Scan::new(depot, queue);
    let found = collect(&mut scan, queue, most, takes).await;
    // Given back also when it failed, and before others are looked for.
    scan.end().await;
    found
}

async fn collect(scan: &mut Scan<'_>, queue: &str, most: usize, takes: &impl Fn(&Summary) -> bool) -> Result<Found> {
    let (mut known, mut letters) = (Known::default(), Vec::new());
    // One more than wanted says that there are more.
    while letters.len() <= most {
        let fresh = scan.next(&mut known).await.map_err(|error| failure(&format!("look into {queue}"), &error))?;
        if fresh.is_empty() {
            break;
        }
        for letter in fresh {
            scan.keep(&letter);
            let summary = Summary::of(queue, &letter, Timestamp::now());
            if takes(&summary) {
                letters.push((summary, letter));
            }
        }
    }
    Ok(Found { letters, rest: Rest { more: false, cut_short: scan.is_cut() } })
}
