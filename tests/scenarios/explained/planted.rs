//! Bugs that the lives find, in what is read and in what is made of it.

use std::{collections::BTreeSet, time::Duration};

use tasker_domain::explain::{Explanation, Said};
use tasker_test_support::Chance;
use tasker_wire::{Remedy, StepReason};

use super::{Twist, live};
use crate::rig::Plant;

/// So many lives find a planted bug.
const FOUND_WITHIN: usize = 100;

/// Bugs in what is read, each with a life that finds it.
const PLANTS: [(usize, Plant); 10] = [
    (0, ("explain_v1", "q.template in ('', t.name)", "q.template = t.name")),
    (3, ("explain_v1", "where t.paused_at is not null", "where false")),
    (65, ("explain_v1", "array_agg(q.open)", "array_agg(true)")),
    (1, ("explain_v1", "not in ('complete', 'resolved_manually')", "not in ('complete', 'resolved_manually', 'cancelled')")),
    (0, ("explain_v1", "array_agg(q.wake_at)", "array_agg(q.wake_at + interval '1 s')")),
    (4, ("explain_v1", "where not u.tolerated group by", "group by")),
    (0, ("explain_v1", "array_agg(q.attempt)", "array_agg(q.attempt - 1)")),
    (17, ("explain_v1", "array_agg(q.awaits_callback)", "array_agg(false)")),
    (0, ("explain_v1", "u.no & ~16383", "u.no & ~32767")),
    (1, ("explain_v1", "and t.state = 'running' offset 0) w", "and false offset 0) w")),
];

/// Bugs in what is made of it.
const TWISTS: [(usize, &str, Twist); 11] = [
    (0, "a pause ends by itself", |said| of(said, StepReason::Held, |step, now| step.changes_at = Some(now))),
    (0, "a retry has no time", |said| of(said, StepReason::WaitingForRetry, |step, _| step.changes_at = None)),
    (0, "a blocked step waits", |said| of(said, StepReason::Blocked, |step, _| step.reason = StepReason::WaitingForParents)),
    (2, "a step waits for no decision", |said| of(said, StepReason::WaitingForDecision, |step, _| step.waits_for.clear())),
    (0, "a place is given by itself", |said| of(said, StepReason::WaitingForPlace, |step, now| step.changes_at = Some(now))),
    (0, "a failed task is reopened", |said| {
        of(said, StepReason::Failed, |step, _| step.act.iter_mut().for_each(|act| act.remedy = Remedy::Reopen))
    }),
    (31, "nothing follows in a failing task", |said| in_its_sentence(said, " for such steps only", " for such steps alone")),
    (0, "what is held can move", |said| in_its_sentence(said, " cannot start before the end of ", " can still move after ")),
    (15, "what is blocked follows", |said| in_its_sentence(said, " never start", " later start")),
    (1, "a task is ended late", |said| {
        let is_ended = said.task.sentence.contains("ends it as error");
        said.task.changes_at = said.task.changes_at.map(|at| if is_ended { at + Duration::from_secs(1) } else { at });
    }),
    (6, "an entry ends the task", |said| in_its_sentence(said, "opens a DLQ entry, and it goes on", "ends it as error")),
];

fn in_its_sentence(said: &mut Explanation, what: &str, instead: &str) {
    said.task.sentence = said.task.sentence.replace(what, instead);
}

fn of(explanation: &mut Explanation, reason: StepReason, twist: impl Fn(&mut Said<StepReason>, jiff::Timestamp)) {
    let now = explanation.now;
    explanation.steps.iter_mut().filter(|step| step.said.reason == reason).for_each(|step| twist(&mut step.said, now));
}

#[tokio::test]
async fn every_planted_bug_is_found_and_none_where_there_is_none() {
    let mut lives = BTreeSet::new();
    for (life, plant) in PLANTS {
        let found = found_in(life, vec![plant], None).await.unwrap_or_else(|| panic!("not found: {plant:?}"));
        lives.insert(found);
        println!("{plant:?} was found by life {found}");
    }
    for (life, name, twist) in TWISTS {
        let found = found_in(life, vec![], Some(twist)).await.unwrap_or_else(|| panic!("not found: {name}"));
        lives.insert(found);
        println!("{name} was found by life {found}");
    }
    for life in lives {
        live(life, Chance::new(life as u64), &[], None).await;
    }
}

/// Which of the same lives as ever ends in a panic: the given one, or one after it, should that no longer do so.
async fn found_in(first: usize, plants: Vec<Plant>, twist: Option<Twist>) -> Option<usize> {
    for life in first..first + FOUND_WITHIN {
        let plants = plants.clone();
        let lived = tokio::spawn(async move { live(life, Chance::new(life as u64), &plants, twist).await.is_some() });
        if let Err(end) = lived.await {
            assert!(end.is_panic());
            return Some(life);
        }
    }
    None
}
