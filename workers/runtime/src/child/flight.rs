//! Which steps a child has in its hands, which wait for it, and who is to blame when it dies. Pure: it is told the time and
//! the events, and says what to send next and whom to blame.
//!
//! When a child dies with several steps in its hands nobody knows which of them did it, so nobody is blamed: they become
//! *suspects* and leave for a child that has one step in its hands at a time. A step that was alone in its child's hands when
//! that died did it; the third time it is blamed. When we killed the child because a step was over its time, only that step is
//! blamed, and its neighbours simply run again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tasker_wire::{RunStep, limits};
use tokio::time::Instant;

/// A step that waits for a child, and how many it has killed alone.
#[derive(Debug)]
pub(super) struct Waiting {
    pub step: Arc<RunStep>,
    lone_deaths: i32,
}

impl From<Arc<RunStep>> for Waiting {
    fn from(step: Arc<RunStep>) -> Self {
        Self { step, lone_deaths: 0 }
    }
}

/// A step in a child's hands.
#[derive(Debug)]
pub(super) struct Running {
    pub step: Arc<RunStep>,
    /// When the child was sent it.
    pub began: Instant,
    pub next_heartbeat: Instant,
    lone_deaths: i32,
}

impl Running {
    fn deadline(&self) -> Instant {
        self.began + Duration::from_secs(self.step.timeout_seconds.into())
    }
}

/// All steps that are meant for one child.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Steps that the child may have in its hands at once.
    places: usize,
    waiting: VecDeque<Waiting>,
    /// In the child's hands, by the number that they have there. A few dozen at most.
    flying: BTreeMap<u64, Running>,
    last_id: u64,
}

/// What follows from a child's death.
#[derive(Debug, Default)]
pub(super) struct Death {
    /// How many steps it had in its hands.
    pub in_flight: usize,
    /// Who has killed it alone, for the last time.
    pub blamed: Option<Running>,
    /// Everybody else who was in its hands.
    pub suspects: Vec<Waiting>,
}

impl Death {
    /// All that were in its hands.
    pub fn steps(&self) -> impl Iterator<Item = &RunStep> {
        let blamed = self.blamed.iter().map(|passenger| &*passenger.step);
        blamed.chain(self.suspects.iter().map(|suspect| &*suspect.step))
    }
}

impl InFlight {
    /// With nobody in it yet.
    pub fn with_places(places: usize) -> Self {
        Self { places, waiting: VecDeque::new(), flying: BTreeMap::new(), last_id: 0 }
    }

    /// Takes a step in.
    pub fn take(&mut self, step: impl Into<Waiting>) {
        self.waiting.push_back(step.into());
    }

    /// Whether it has no step at all.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flying.is_empty()
    }

    /// The next step that may be sent to the child, which has it from now on, and the number it gets.
    pub fn depart(&mut self, now: Instant) -> Option<(u64, &Running)> {
        if self.flying.len() >= self.places {
            return None;
        }
        let Waiting { step, lone_deaths } = self.waiting.pop_front()?;
        // Numbers are never used twice, not even by the next child: a stray answer meets nobody.
        self.last_id += 1;
        let passenger = Running { step, began: now, next_heartbeat: now, lone_deaths };
        Some((self.last_id, self.flying.entry(self.last_id).or_insert(passenger)))
    }

    /// The child answered. `None`: it has no such step.
    pub fn land(&mut self, id: u64) -> Option<Running> {
        self.flying.remove(&id)
    }

    /// A step in the child's hands.
    pub fn flying(&mut self, id: u64) -> Option<&mut Running> {
        self.flying.get_mut(&id)
    }

    /// Whether the number was ever given to a step.
    pub fn was_issued(&self, id: u64) -> bool {
        (1..=self.last_id).contains(&id)
    }

    /// When the first step will be over its time.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.flying.values().map(Running::deadline).min()
    }

    /// Takes out all that are over their time; they are to blame for what must now be done to their child.
    pub fn overdue(&mut self, now: Instant) -> Vec<Running> {
        let late: Vec<u64> = self.flying.iter().filter(|(_, p)| p.deadline() <= now).map(|(&id, _)| id).collect();
        late.iter().filter_map(|id| self.flying.remove(id)).collect()
    }

    /// The child is gone by our own hand, for somebody else's fault: the others run again first thing, unsuspected.
    pub fn spare(&mut self) {
        let spared = std::mem::take(&mut self.flying);
        for Running { step, lone_deaths, .. } in spared.into_values().rev() {
            self.waiting.push_front(Waiting { step, lone_deaths });
        }
    }

    /// The child died. Whoever was in its hands leaves.
    pub fn crash(&mut self) -> Death {
        let lost = std::mem::take(&mut self.flying);
        let mut death = Death { in_flight: lost.len(), ..Death::default() };
        for mut passenger in lost.into_values() {
            passenger.lone_deaths += i32::from(death.in_flight == 1);
            if passenger.lone_deaths >= limits::LOSSES {
                death.blamed = Some(passenger);
            } else {
                death.suspects.push(Waiting { step: passenger.step, lone_deaths: passenger.lone_deaths });
            }
        }
        death
    }
}

#[cfg(test)]
mod tests {
    use tasker_wire::TaskId;

    use super::*;

    /// A flight with steps named by numbers, and the instant it began.
    fn flight_of(steps: i32) -> (InFlight, Instant) {
        let mut flight = InFlight::with_places(8);
        for no in 0..steps {
            flight.take(Arc::new(crate::testing::step(TaskId::from_fresh(uuid::Uuid::nil()).step(no), "x")));
        }
        (flight, Instant::now())
    }

    fn depart_all(flight: &mut InFlight, now: Instant) -> Vec<(u64, i32)> {
        std::iter::from_fn(|| flight.depart(now).map(|(id, passenger)| (id, passenger.step.step_id.no))).collect()
    }

    fn names(departed: &[(u64, i32)]) -> Vec<i32> {
        departed.iter().map(|(_, no)| *no).collect()
    }

    #[test]
    fn who_was_in_a_dead_child_leaves_as_a_suspect_and_new_steps_go_on() {
        let (mut flight, now) = flight_of(3);
        assert_eq!(names(&depart_all(&mut flight, now)), [0, 1, 2]);
        flight.take(flight_of(4).0.waiting.pop_back().unwrap());
        let death = flight.crash();
        assert!(death.in_flight == 3 && death.blamed.is_none());
        assert_eq!(
            death.suspects.iter().map(|s| (s.step.step_id.no, s.lone_deaths)).collect::<Vec<_>>(),
            [(0, 0), (1, 0), (2, 0)]
        );
        assert_eq!(names(&depart_all(&mut flight, now)), [3]);
    }

    #[test]
    fn no_more_fly_at_once_than_there_are_places() {
        let (mut flight, now) = flight_of(3);
        flight.places = 1;
        for no in 0..3 {
            let departed = depart_all(&mut flight, now);
            assert_eq!(names(&departed), [no]);
            flight.land(departed[0].0).unwrap();
        }
        assert!(flight.is_empty());
    }

    #[test]
    fn the_third_lone_death_is_blamed_and_the_first_two_are_not() {
        let (mut together, now) = flight_of(2);
        depart_all(&mut together, now);
        let mut alone = InFlight::with_places(1);
        together.crash().suspects.into_iter().for_each(|suspect| alone.take(suspect));
        let mut blamed = Vec::new();
        while let [(id, no)] = depart_all(&mut alone, now)[..] {
            if no == 0 {
                alone.land(id);
            } else {
                let death = alone.crash();
                blamed.push(death.blamed.map(|p| p.step.step_id.no));
                death.suspects.into_iter().for_each(|suspect| alone.take(suspect));
            }
        }
        assert_eq!(blamed, [None, None, Some(1)]);
    }

    #[test]
    fn neighbours_of_a_late_step_fly_again_together_and_in_their_order() {
        let (mut flight, now) = flight_of(3);
        flight.waiting[1].step = Arc::new(RunStep { timeout_seconds: 1, ..(*flight.waiting[1].step).clone() });
        depart_all(&mut flight, now);
        assert_eq!(flight.next_deadline(), Some(now + Duration::from_secs(1)));
        assert!(flight.overdue(now).is_empty());
        let late = flight.overdue(now + Duration::from_secs(1));
        assert_eq!(late.iter().map(|p| p.step.step_id.no).collect::<Vec<_>>(), [1]);
        flight.spare();
        assert_eq!(names(&depart_all(&mut flight, now)), [0, 2]);
    }

    #[test]
    fn a_number_is_never_given_twice() {
        let (mut flight, now) = flight_of(2);
        let first = depart_all(&mut flight, now);
        flight.spare();
        let second = depart_all(&mut flight, now);
        assert!(first.iter().all(|(id, _)| flight.was_issued(*id) && second.iter().all(|(other, _)| id != other)));
        assert!(flight.land(first[0].0).is_none());
    }
}
