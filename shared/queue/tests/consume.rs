//! Consumes batches of which some messages are broken.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tasker_queue::{
    Consumer, Delivery, Disposition,
    Disposition::{Dead, Done, RetryLater},
    Limits, Receipt, Unreadable, WorkError, consume,
};
use tokio::time::Instant;

/// Behaves as its messages say, and records its calls.
#[derive(Default)]
struct Scripted(Mutex<Vec<String>>);

impl Consumer for Scripted {
    type Message = &'static str;
    type Note = String;

    async fn work(&self, messages: Arc<[&'static str]>) -> Result<Vec<Disposition>, WorkError> {
        self.0.lock().push(messages.join(" "));
        let mut dispositions = Vec::new();
        for message in messages.iter() {
            match *message {
                "panics" => panic!("as planned"),
                "defect" => return Err(WorkError::Defect("a defect".into())),
                "away" => return Err(WorkError::Later("the database is away".into())),
                "hangs" => std::future::pending().await,
                "forged" => dispositions.push(Dead("forged".into())),
                "short" => {}
                _ => dispositions.push(Done),
            }
        }
        Ok(dispositions)
    }

    async fn note(&self, message: &&'static str, _receipt: &Receipt) -> Result<Option<String>, WorkError> {
        self.0.lock().push(format!("note {message}"));
        Ok(Some((*message).to_owned()))
    }

    async fn remove_note(&self, note: String) -> Result<(), WorkError> {
        self.0.lock().push(format!("remove note {note}"));
        match note.as_str() {
            "keeps a panicking note" => panic!("as planned"),
            "keeps a hanging note" => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

fn delivery(message: &'static str, receives: u32) -> Delivery<&'static str> {
    let unreadable = match message {
        "malformed" => Some(Unreadable::Malformed("no JSON".into())),
        "newer" | "newest" => Some(Unreadable::OtherVersion(3)),
        _ => None,
    };
    let receipt = Receipt { id: message.into(), handle: String::new(), receives };
    Delivery { message: unreadable.map_or(Ok(message), Err), receipt }
}

/// Consumes messages at their first receive, or at their fifth and last if they say so. Returns the dispositions and the calls.
async fn consumed(messages: &[&'static str]) -> (Vec<(String, Disposition)>, Vec<String>) {
    let work = Scripted::default();
    let batch = messages.iter().map(|message| match message.strip_prefix("last ") {
        Some(message) => delivery(message, 5),
        None => delivery(message, 1),
    });
    let limits = Limits { max_receives: 5, until: Some(Instant::now() + Duration::from_secs(60)) };
    let settled = consume(batch.collect(), limits, &work).await;
    (settled.into_iter().map(|(receipt, disposition)| (receipt.id, disposition)).collect(), work.0.into_inner())
}

fn of(settled: &[(String, Disposition)], id: &str) -> Disposition {
    settled.iter().find(|(settled, _)| settled == id).unwrap_or_else(|| panic!("{id} is not settled")).1.clone()
}

#[tokio::test]
async fn readable_messages_are_worked_on_together_and_unreadable_ones_are_dead_or_retried() {
    let (settled, done) = consumed(&["a", "malformed", "forged", "newer"]).await;
    assert_eq!(done, ["a forged"]);
    assert_eq!(["a", "forged"].map(|id| of(&settled, id)), [Done, Dead("forged".into())]);
    assert_eq!(["malformed", "newer"].map(|id| of(&settled, id)), [Dead("no JSON".into()), RetryLater]);
}

#[tokio::test]
async fn a_panic_and_any_other_defect_cost_their_own_message_and_not_its_neighbours() {
    for broken in ["panics", "defect", "short"] {
        let (settled, done) = consumed(&["a", broken, "b"]).await;
        assert_eq!(["a", broken, "b"].map(|id| of(&settled, id)), [Done, RetryLater, Done], "{broken}");
        assert_eq!(done[1..], ["a", broken, "b"], "each alone");
    }
}

#[tokio::test]
async fn once_the_infrastructure_prevents_the_work_nothing_more_is_tried() {
    let (settled, done) = consumed(&["a", "away", "last b", "malformed"]).await;
    assert_eq!(done, ["a away"]);
    assert_eq!(["a", "away", "b"].map(|id| of(&settled, id)), [RetryLater, RetryLater, RetryLater]);
    assert_eq!(of(&settled, "malformed"), Dead("no JSON".into()));
}

#[tokio::test(start_paused = true)]
async fn messages_that_are_not_done_at_the_deadline_are_delivered_again() {
    let (settled, done) = consumed(&["a", "hangs", "last b"]).await;
    assert_eq!(["a", "hangs", "b"].map(|id| of(&settled, id)), [RetryLater, RetryLater, RetryLater]);
    assert_eq!(done, ["a hangs"]);
}

#[tokio::test]
async fn a_message_at_its_last_receive_is_noted_and_worked_on_alone_and_its_note_is_removed_when_it_succeeds() {
    let (settled, done) = consumed(&["last a", "b", "last panics", "c"]).await;
    assert_eq!(done, ["b c", "note a", "a", "remove note a", "note panics", "panics"]);
    assert_eq!(["a", "b", "c", "panics"].map(|id| of(&settled, id)), [Done, Done, Done, RetryLater]);
}

#[tokio::test(start_paused = true)]
async fn a_note_that_cannot_be_removed_costs_no_disposition_and_no_more_than_the_deadline() {
    let batch = ["a", "last keeps a panicking note", "last keeps a hanging note", "last b"];
    let begin = Instant::now();
    let (settled, done) = consumed(&batch).await;
    assert_eq!(begin.elapsed(), Duration::from_secs(60));
    let dispositions = ["a", "keeps a panicking note", "keeps a hanging note", "b"].map(|id| of(&settled, id));
    assert_eq!(dispositions, [Done, Done, Done, RetryLater]);
    assert_eq!(done.last().unwrap(), "remove note keeps a hanging note", "nothing is tried when the time is over");
}

#[tokio::test]
async fn a_message_of_another_version_is_dead_with_its_reason_at_its_last_receive() {
    let (settled, done) = consumed(&["newer", "last newest"]).await;
    assert_eq!(of(&settled, "newer"), RetryLater);
    assert_eq!(of(&settled, "newest"), Dead("it has version 3; this version reads 1 to 2".into()));
    assert!(done.is_empty());
}
