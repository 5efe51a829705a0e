//! The steps for one child: those that run, those that wait, and which step is blamed if the child dies. Pure: its input is the time
//! and the events, its output the steps to send and the steps to blame.
//!
//! If a child dies with several steps, any of them may have killed it. None is blamed: they become *suspects* and move to a child that
//! runs one step at a time. A step that was alone in its child killed it; the third time it is blamed. If we killed the child because
//! of a timeout, only the late step is blamed, and the others run again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tasker_wire::{RunStep, limits};
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
    deadline: Instant,
    lone_deaths: i32,
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

/// The consequences of a child's death.
#[derive(Debug, Default)]
pub(super) struct Death {
    /// The number of steps that the child had.
    pub in_flight: usize,
    pub blamed: Option<Running>,
    /// All other steps that the child had.
    pub suspects: Vec<Waiting>,
}

impl Death {
    pub fn steps(&self) -> impl Iterator<Item = &RunStep> {
        let blamed = self.blamed.iter().map(|running| &*running.step);
        blamed.chain(self.suspects.iter().map(|suspect| &*suspect.step))
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

    /// Gives the next step a place and a number. It now waits for the gate.
    pub fn admit(&mut self) -> Option<(u64, &Arc<RunStep>)> {
        if self.at_gate.len() + self.running.len() >= self.places {
            return None;
        }
        let waiting = self.waiting.pop_front()?;
        // No number is used twice, not even by the next child, so a stray answer matches no step.
        self.last_id += 1;
        Some((self.last_id, &self.at_gate.entry(self.last_id).or_insert(waiting).step))
    }

    /// The gate refused the step.
    pub fn refuse(&mut self, id: u64) -> Option<Arc<RunStep>> {
        self.at_gate.remove(&id).map(|waiting| waiting.step)
    }

    /// The gate admitted the step. The child runs it from now on.
    pub fn start(&mut self, id: u64, now: Instant) -> Option<&Running> {
        let Waiting { step, lone_deaths } = self.at_gate.remove(&id)?;
        let deadline = now + Duration::from_secs(step.timeout_seconds.into());
        Some(self.running.entry(id).or_insert(Running { step, began: now, next_heartbeat: now, deadline, lone_deaths }))
    }

    /// The child answered. `None` if it has no such step.
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

    /// Removes the steps that are past their deadline. They are blamed for the end of their child.
    pub fn overdue(&mut self, now: Instant) -> Vec<Running> {
        let late: Vec<u64> = self.running.iter().filter(|(_, running)| running.deadline <= now).map(|(&id, _)| id).collect();
        late.iter().filter_map(|id| self.running.remove(id)).collect()
    }

    /// We killed the child because of another step. The remaining steps run again first and are not suspects.
    pub fn spare(&mut self) {
        self.recall();
        let spared = std::mem::take(&mut self.running);
        for Running { step, lone_deaths, .. } in spared.into_values().rev() {
            self.waiting.push_front(Waiting { step, lone_deaths });
        }
    }

    /// The child died. Removes all steps that it had.
    pub fn crash(&mut self) -> Death {
        self.recall();
        let lost = std::mem::take(&mut self.running);
        let mut death = Death { in_flight: lost.len(), ..Death::default() };
        for mut running in lost.into_values() {
            running.lone_deaths += i32::from(death.in_flight == 1);
            if running.lone_deaths >= limits::LOSSES {
                death.blamed = Some(running);
            } else {
                death.suspects.push(Waiting { step: running.step, lone_deaths: running.lone_deaths });
            }
        }
        death
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

    #[test]
    fn the_steps_of_a_dead_child_become_suspects_and_new_steps_run() {
        let (mut in_flight, now) = waiting(3);
        assert_eq!(names(&start_all(&mut in_flight, now)), [0, 1, 2]);
        in_flight.take(waiting(4).0.waiting.pop_back().unwrap());
        let death = in_flight.crash();
        assert!(death.in_flight == 3 && death.blamed.is_none());
        assert_eq!(
            death.suspects.iter().map(|s| (s.step.step_id.no, s.lone_deaths)).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (2, 0)]
        );
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
        together.crash().suspects.into_iter().for_each(|suspect| alone.take(suspect));
        let mut blamed = Vec::new();
        while let [(id, no)] = start_all(&mut alone, now)[..] {
            if no == 0 {
                alone.finish(id);
            } else {
                let death = alone.crash();
                blamed.push(death.blamed.map(|p| p.step.step_id.no));
                death.suspects.into_iter().for_each(|suspect| alone.take(suspect));
            }
        }
        assert_eq!(blamed, [None, None, Some(1)]);
    }

    #[test]
    fn the_steps_beside_a_late_one_run_again_together_and_in_their_order() {
        let (mut in_flight, now) = waiting(3);
        in_flight.waiting[1].step = Arc::new(RunStep { timeout_seconds: 1, ..(*in_flight.waiting[1].step).clone() });
        start_all(&mut in_flight, now);
        assert_eq!(in_flight.next_deadline(), Some(now + Duration::from_secs(1)));
        assert!(in_flight.overdue(now).is_empty());
        let late = in_flight.overdue(now + Duration::from_secs(1));
        assert_eq!(late.iter().map(|p| p.step.step_id.no).collect::<Vec<_>>(), [1]);
        in_flight.spare();
        assert_eq!(names(&start_all(&mut in_flight, now)), [0, 2]);
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let (mut in_flight, now) = waiting(2);
        let first = start_all(&mut in_flight, now);
        in_flight.spare();
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
        assert_eq!((death.in_flight, death.suspects[0].step.step_id.no), (1, 0));
        assert!(in_flight.start(second, now).is_none() && in_flight.refuse(second).is_none(), "the gate decides about it again");
        assert_eq!(names(&start_all(&mut in_flight, now)), [1, 2]);
    }
}
