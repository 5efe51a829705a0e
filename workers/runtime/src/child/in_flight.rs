//! The steps for one child: those that run, those that wait, and which step is blamed if the child dies. Pure: its input is the time
//! and the events, its output the steps to send and the steps to blame.
//!
//! If a child dies with several steps, any of them may have killed it. None is blamed: they become *suspects*, and each runs alone from
//! now on. A step that was alone in its child killed it; the third time it is blamed. If we killed the child because of one step, the
//! others run alone from now on too: so a step is thrown back for another's fault at most once.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tasker_wire::{Lease, RunStep, limits};
use tokio::time::Instant;

use crate::pause::postponed;

/// A step that waits for a child, with the number of children that died while they ran only this step.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub step: Arc<RunStep>,
    lone_deaths: i32,
}

impl From<Arc<RunStep>> for Waiting {
    fn from(step: Arc<RunStep>) -> Self {
        Self { step, lone_deaths: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Running {
    pub step: Arc<RunStep>,
    pub began: Instant,
    pub next_heartbeat: Instant,
    /// When the child was last asked whether it still has the step; before that, when the step began.
    asked: Instant,
    /// Then it is late, or if it was told to stop, its process is ended.
    deadline: Instant,
    /// Why its handler was told to stop.
    pub stopped: Option<Stopped>,
    lone_deaths: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It exceeded its timeout.
    Late,
    /// It was cancelled, or dispatched again.
    Unwanted,
}

/// All steps for one child. Each step with a place has a number.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The number of steps that the child may run concurrently.
    places: usize,
    waiting: VecDeque<Waiting>,
    /// Steps with a place that wait for the gate.
    at_gate: BTreeMap<u64, Waiting>,
    running: BTreeMap<u64, Running>,
    last_id: u64,
}

/// The consequences of a child's end.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// The number of steps that the child had.
    pub in_flight: usize,
    pub blamed: Option<Running>,
    /// The steps that had been told to stop. They are not run again.
    pub stopped: Vec<Running>,
    /// All other steps that the child had.
    pub thrown_back: Vec<Waiting>,
}

impl Ended {
    pub fn steps(&self) -> impl Iterator<Item = &RunStep> {
        let ended = self.blamed.iter().chain(&self.stopped).map(|running| &*running.step);
        ended.chain(self.thrown_back.iter().map(|waiting| &*waiting.step))
    }
}

impl InFlight {
    pub fn with_places(places: usize) -> Self {
        Self { places, waiting: VecDeque::new(), at_gate: BTreeMap::new(), running: BTreeMap::new(), last_id: 0 }
    }

    pub fn take(&mut self, step: impl Into<Waiting>) {
        self.waiting.push_back(step.into());
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.at_gate.is_empty() && self.running.is_empty()
    }

    /// Gives the next step a place and a number. It now waits for the gate. While a step is to stop, none is admitted: if that step does
    /// not stop, the child is killed, and a step that started now would be thrown back.
    pub fn admit(&mut self) -> Option<(u64, &Arc<RunStep>)> {
        if self.at_gate.len() + self.running.len() >= self.places || self.waiting.is_empty() || self.is_to_stop() {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        // No number is used twice, not even by the next child, so a stray answer matches no step.
        self.last_id += 1;
        Some((self.last_id, &self.at_gate.entry(self.last_id).or_insert(waiting).step))
    }

    fn is_to_stop(&self) -> bool {
        self.running.values().any(|running| running.stopped.is_some())
    }

    /// A step that waits for the gate.
    pub fn at_gate(&self, id: u64) -> Option<&RunStep> {
        self.at_gate.get(&id).map(|waiting| &*waiting.step)
    }

    /// The gate refused the step.
    pub fn refuse(&mut self, id: u64) -> Option<Arc<RunStep>> {
        self.at_gate.remove(&id).map(|waiting| waiting.step)
    }

    /// The gate admitted the step. The child runs it from now on.
    pub fn start(&mut self, id: u64, now: Instant) -> Option<&Running> {
        let Waiting { step, lone_deaths } = self.at_gate.remove(&id)?;
        let deadline = now + Duration::from_secs(step.timeout_seconds.into());
        let running = Running { step, began: now, next_heartbeat: now, asked: now, deadline, stopped: None, lone_deaths };
        Some(self.running.entry(id).or_insert(running))
    }

    /// Marks the steps that the child has had for an interval since they began or were last asked about. Returns them: the child is asked
    /// whether it still has them. A step that is to stop ends soon anyway.
    pub fn ask(&mut self, interval: Duration, now: Instant) -> Vec<u64> {
        let is_due = |running: &Running| running.stopped.is_none() && running.asked + interval <= now;
        let due = self.running.iter_mut().filter(|(_, running)| is_due(running));
        let ask = |(&id, running): (&u64, &mut Running)| {
            running.asked = now;
            id
        };
        due.map(ask).collect()
    }

    /// The child answered, or does not have the step any more. `None` if it has no such step.
    pub fn finish(&mut self, id: u64) -> Option<Running> {
        self.running.remove(&id)
    }

    pub fn running(&mut self, id: u64) -> Option<&mut Running> {
        self.running.get_mut(&id)
    }

    /// Whether any step had this number.
    pub fn was_issued(&self, id: u64) -> bool {
        (1..=self.last_id).contains(&id)
    }

    /// The earliest deadline of a running step.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.running.values().map(|running| running.deadline).min()
    }

    /// Gives all running steps the time of a pause again.
    pub fn postpone(&mut self, pause: Duration, now: Instant) {
        self.running.values_mut().for_each(|running| running.deadline = postponed(running.deadline, pause, now));
    }

    /// Marks the steps that are past their deadline as late. Returns those that are to be told.
    pub fn stop_late(&mut self, now: Instant) -> Vec<u64> {
        let late = |running: &Running| running.deadline <= now;
        self.stop(Stopped::Late, now + Duration::from_millis(limits::LATE_STOP_MS), late)
    }

    /// Marks the steps that are no longer wanted. Returns those that are to be told.
    pub fn stop_unwanted(&mut self, unwanted: &HashSet<Lease>, now: Instant) -> Vec<u64> {
        let is_unwanted = |running: &Running| unwanted.contains(&running.step.lease());
        self.stop(Stopped::Unwanted, now + Duration::from_millis(limits::STOP_MS), is_unwanted)
    }

    fn stop(&mut self, why: Stopped, deadline: Instant, which: impl Fn(&Running) -> bool) -> Vec<u64> {
        let to_stop = self.running.iter_mut().filter(|(_, running)| running.stopped.is_none() && which(running));
        let stop = |(&id, running): (&u64, &mut Running)| {
            (running.stopped, running.deadline) = (Some(why), deadline);
            id
        };
        to_stop.map(stop).collect()
    }

    /// Removes the steps that did not stop in time. They are blamed for the end of their child.
    pub fn overdue(&mut self, now: Instant) -> Vec<Running> {
        let is_overdue = |running: &Running| running.stopped.is_some() && running.deadline <= now;
        let overdue: Vec<u64> = self.running.iter().filter(|(_, running)| is_overdue(running)).map(|(&id, _)| id).collect();
        overdue.iter().filter_map(|id| self.running.remove(id)).collect()
    }

    /// We killed the child because of a step that was removed. Removes all others.
    pub fn spare(&mut self) -> Ended {
        self.recall();
        let lost = std::mem::take(&mut self.running);
        let in_flight = lost.len();
        let (stopped, others): (Vec<_>, Vec<_>) = lost.into_values().partition(|running| running.stopped.is_some());
        let thrown_back = others.into_iter().map(|Running { step, lone_deaths, .. }| Waiting { step, lone_deaths }).collect();
        Ended { in_flight, blamed: None, stopped, thrown_back }
    }

    /// The child died. Removes all steps that it had.
    pub fn crash(&mut self) -> Ended {
        if self.running.len() == 1 {
            self.running.values_mut().for_each(|running| running.lone_deaths += 1);
        }
        let is_blamed = |running: &Running| running.stopped.is_none() && running.lone_deaths >= limits::LOSSES;
        let blamed = self.running.iter().find(|(_, running)| is_blamed(running)).map(|(&id, _)| id);
        let blamed = blamed.and_then(|id| self.running.remove(&id));
        let others = self.spare();
        Ended { in_flight: others.in_flight + usize::from(blamed.is_some()), blamed, ..others }
    }

    /// Steps at the gate wait for the next child and its gate.
    fn recall(&mut self) {
        for waiting in std::mem::take(&mut self.at_gate).into_values().rev() {
            self.waiting.push_front(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use tasker_wire::TaskId;

    use super::*;

    /// Steps that wait, named by numbers.
    fn waiting(steps: i32) -> (InFlight, Instant) {
        let mut in_flight = InFlight::with_places(8);
        for no in 0..steps {
            in_flight.take(Arc::new(crate::testing::step(TaskId::from_fresh(uuid::Uuid::nil()).step(no), "x")));
        }
        (in_flight, Instant::now())
    }

    fn start_all(in_flight: &mut InFlight, now: Instant) -> Vec<(u64, i32)> {
        let start = || {
            let (id, _) = in_flight.admit()?;
            Some((id, in_flight.start(id, now)?.step.step_id.no))
        };
        std::iter::from_fn(start).collect()
    }

    fn names(started: &[(u64, i32)]) -> Vec<i32> {
        started.iter().map(|(_, no)| *no).collect()
    }

    fn numbers_of(waiting: &[Waiting]) -> Vec<(i32, i32)> {
        waiting.iter().map(|waiting| (waiting.step.step_id.no, waiting.lone_deaths)).collect()
    }

    #[test]
    fn the_steps_of_a_dead_child_become_suspects_and_new_steps_run() {
        let (mut in_flight, now) = waiting(3);
        assert_eq!(names(&start_all(&mut in_flight, now)), [0, 1, 2]);
        in_flight.take(waiting(4).0.waiting.pop_back().unwrap());
        let death = in_flight.crash();
        assert!(death.in_flight == 3 && death.blamed.is_none());
        assert_eq!(numbers_of(&death.thrown_back), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(names(&start_all(&mut in_flight, now)), [3]);
    }

    #[test]
    fn no_more_run_at_once_than_there_are_places() {
        let (mut in_flight, now) = waiting(3);
        in_flight.places = 1;
        for no in 0..3 {
            let started = start_all(&mut in_flight, now);
            assert_eq!(names(&started), [no]);
            in_flight.finish(started[0].0).unwrap();
        }
        assert!(in_flight.is_empty());
    }

    #[test]
    fn the_third_lone_death_is_blamed_and_the_first_two_are_not() {
        let (mut together, now) = waiting(2);
        start_all(&mut together, now);
        let mut alone = InFlight::with_places(1);
        together.crash().thrown_back.into_iter().for_each(|suspect| alone.take(suspect));
        let mut blamed = Vec::new();
        while let [(id, no)] = start_all(&mut alone, now)[..] {
            if no == 0 {
                alone.finish(id);
            } else {
                let death = alone.crash();
                blamed.push(death.blamed.map(|p| p.step.step_id.no));
                death.thrown_back.into_iter().for_each(|suspect| alone.take(suspect));
            }
        }
        assert_eq!(blamed, [None, None, Some(1)]);
    }

    /// Three steps that run, of which the second has a second.
    fn one_is_short() -> (InFlight, Instant) {
        let (mut in_flight, now) = waiting(3);
        in_flight.waiting[1].step = Arc::new(RunStep { timeout_seconds: 1, ..(*in_flight.waiting[1].step).clone() });
        start_all(&mut in_flight, now);
        (in_flight, now)
    }

    #[test]
    fn a_late_step_is_told_once_and_blamed_when_it_does_not_stop_and_the_others_are_thrown_back() {
        let (mut in_flight, now) = one_is_short();
        let late = now + Duration::from_secs(1);
        assert_eq!(in_flight.next_deadline(), Some(late));
        assert!(in_flight.stop_late(now).is_empty() && in_flight.overdue(now).is_empty());
        assert_eq!(in_flight.stop_late(late), [2]);
        assert!(in_flight.stop_late(late).is_empty() && in_flight.overdue(late).is_empty());
        let overdue = in_flight.overdue(late + Duration::from_millis(limits::LATE_STOP_MS));
        assert_eq!(overdue.iter().map(|p| (p.step.step_id.no, p.stopped)).collect::<Vec<_>>(), [(1, Some(Stopped::Late))]);
        assert_eq!(numbers_of(&in_flight.spare().thrown_back), [(0, 0), (2, 0)]);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn nothing_starts_beside_a_step_that_is_to_stop() {
        let (mut in_flight, now) = one_is_short();
        in_flight.stop_late(now + Duration::from_secs(1));
        in_flight.take(waiting(4).0.waiting.pop_back().unwrap());
        assert!(in_flight.admit().is_none());
        in_flight.finish(2).unwrap();
        assert!(in_flight.admit().is_some());
    }

    #[test]
    fn a_step_that_was_told_to_stop_is_neither_blamed_nor_run_again_when_its_child_dies() {
        for others in [0, 1] {
            let (mut in_flight, now) = waiting(1 + others);
            start_all(&mut in_flight, now);
            let unwanted = HashSet::from([in_flight.running[&1].step.lease()]);
            assert_eq!(in_flight.stop_unwanted(&unwanted, now), [1]);
            in_flight.running.get_mut(&1).unwrap().lone_deaths = limits::LOSSES;
            let ended = in_flight.crash();
            assert!(ended.blamed.is_none() && ended.stopped[0].step.step_id.no == 0);
            assert_eq!(ended.thrown_back.len(), others as usize);
        }
    }

    #[test]
    fn a_pause_lengthens_the_time_of_all_that_run() {
        let (mut in_flight, now) = one_is_short();
        let pause = Duration::from_secs(80);
        in_flight.postpone(pause, now + pause);
        assert!(in_flight.stop_late(now + pause).is_empty());
        assert_eq!(in_flight.next_deadline(), Some(now + pause + Duration::from_secs(1)));
    }

    #[test]
    fn a_child_is_asked_about_each_step_once_an_interval() {
        let (mut in_flight, began) = waiting(1);
        let (interval, tick) = (Duration::from_secs(60), Duration::from_millis(250));
        start_all(&mut in_flight, began);
        in_flight.take(waiting(4).0.waiting.pop_back().unwrap());
        start_all(&mut in_flight, began + tick);
        let mut asked = |after| in_flight.ask(interval, began + after);
        assert!(asked(interval - tick).is_empty(), "both are young");
        assert_eq!((asked(interval), asked(interval + tick), asked(interval + 2 * tick)), (vec![1], vec![2], vec![]));
        assert_eq!((asked(2 * interval), asked(2 * interval + tick)), (vec![1], vec![2]));
        in_flight.finish(1).unwrap();
        assert_eq!(in_flight.ask(interval, began + 4 * interval), [2], "an answered step is not asked about");
    }

    #[test]
    fn a_child_is_not_asked_about_a_step_that_is_to_stop_or_that_it_was_not_sent() {
        let (mut in_flight, now) = one_is_short();
        in_flight.take(waiting(4).0.waiting.pop_back().unwrap());
        in_flight.admit().unwrap();
        let later = now + Duration::from_secs(1);
        assert_eq!(in_flight.stop_late(later), [2]);
        assert_eq!(in_flight.ask(Duration::from_secs(1), later), [1, 3]);
    }

    #[test]
    fn a_step_that_the_child_lost_leaves_its_place_and_nobody_has_it() {
        let (mut in_flight, now) = waiting(2);
        in_flight.places = 1;
        let started = start_all(&mut in_flight, now);
        let step = Arc::downgrade(&in_flight.finish(started[0].0).unwrap().step);
        assert_eq!(step.strong_count(), 0);
        assert_eq!(names(&start_all(&mut in_flight, now)), [1]);
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let (mut in_flight, now) = waiting(2);
        let first = start_all(&mut in_flight, now);
        in_flight.spare().thrown_back.into_iter().for_each(|waiting| in_flight.take(waiting));
        let second = start_all(&mut in_flight, now);
        assert!(first.iter().all(|(id, _)| in_flight.was_issued(*id) && second.iter().all(|(other, _)| id != other)));
        assert!(in_flight.finish(first[0].0).is_none());
    }

    #[test]
    fn a_step_at_the_gate_has_a_place_and_is_neither_blamed_nor_lost_when_the_child_dies() {
        let (mut in_flight, now) = waiting(3);
        in_flight.places = 2;
        let (first, _) = in_flight.admit().unwrap();
        in_flight.start(first, now);
        let (second, _) = in_flight.admit().unwrap();
        assert!(in_flight.admit().is_none(), "both places are taken");
        let death = in_flight.crash();
        assert_eq!((death.in_flight, death.thrown_back[0].step.step_id.no), (1, 0));
        assert!(in_flight.start(second, now).is_none() && in_flight.refuse(second).is_none(), "the gate decides about it again");
        assert_eq!(names(&start_all(&mut in_flight, now)), [1, 2]);
    }
}
