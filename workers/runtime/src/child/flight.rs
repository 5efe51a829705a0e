//! Which steps a child has in its hands, which wait, and who is to blame when it dies. Pure: it is told the time and the
//! events, and says what to send next and whom to blame.
//!
//! When a child dies with several steps in its hands nobody knows which of them did it, so nobody is blamed: they become
//! *suspects* and run again one at a time, with nothing beside them. A step that was alone in its child's hands when that died
//! did it; the third time it is blamed. When we killed the child because a step was over its time, only that step is blamed,
//! and its neighbours simply run again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tasker_domain::{RunStep, limits};
use tokio::time::Instant;

/// A step with what happened to it in this worker.
#[derive(Debug)]
pub(super) struct Passenger {
    pub step: Arc<RunStep>,
    /// When its child was last sent it.
    pub began: Instant,
    pub next_heartbeat: Instant,
    lone_deaths: i32,
    suspect: bool,
}

impl Passenger {
    fn deadline(&self) -> Instant {
        self.began + Duration::from_secs(self.step.timeout_seconds.into())
    }
}

/// All steps that this worker holds.
#[derive(Debug, Default)]
pub(super) struct Flight {
    waiting: VecDeque<Passenger>,
    suspects: VecDeque<Passenger>,
    /// In the child's hands, by the number that they have there. A few dozen at most.
    flying: BTreeMap<u64, Passenger>,
    last_id: u64,
}

/// What follows from a child's death.
#[derive(Debug, Default)]
pub(super) struct Death {
    /// How many steps it had in its hands.
    pub in_flight: usize,
    /// Who has killed it alone, for the last time.
    pub blamed: Option<Passenger>,
}

impl Flight {
    /// Takes a step in.
    pub fn take(&mut self, step: Arc<RunStep>, now: Instant) {
        self.waiting.push_back(Passenger { step, began: now, next_heartbeat: now, lone_deaths: 0, suspect: false });
    }

    /// The next step that may be sent to the child, which has it from now on, and the number it gets.
    pub fn depart(&mut self, now: Instant) -> Option<(u64, &Passenger)> {
        let mut passenger = self.next()?;
        passenger.began = now;
        passenger.next_heartbeat = now;
        // Numbers are never used twice, not even by the next child: a stray answer meets nobody.
        self.last_id += 1;
        Some((self.last_id, self.flying.entry(self.last_id).or_insert(passenger)))
    }

    fn next(&mut self) -> Option<Passenger> {
        // A suspect in the child's hands is there alone, so looking at one is looking at all.
        if self.flying.values().next().is_some_and(|passenger| passenger.suspect) {
            return None;
        }
        if self.suspects.is_empty() {
            return self.waiting.pop_front();
        }
        if self.flying.is_empty() { self.suspects.pop_front() } else { None }
    }

    /// The child answered. `None`: it has no such step.
    pub fn land(&mut self, id: u64) -> Option<Passenger> {
        self.flying.remove(&id)
    }

    /// A step in the child's hands.
    pub fn flying(&mut self, id: u64) -> Option<&mut Passenger> {
        self.flying.get_mut(&id)
    }

    /// Whether the number was ever given to a step.
    pub fn was_issued(&self, id: u64) -> bool {
        (1..=self.last_id).contains(&id)
    }

    /// When the first step will be over its time.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.flying.values().map(Passenger::deadline).min()
    }

    /// Takes out all that are over their time; they are to blame for what must now be done to their child.
    pub fn overdue(&mut self, now: Instant) -> Vec<Passenger> {
        let late: Vec<u64> = self.flying.iter().filter(|(_, p)| p.deadline() <= now).map(|(&id, _)| id).collect();
        late.iter().filter_map(|id| self.flying.remove(id)).collect()
    }

    /// The child is gone by our own hand, for somebody else's fault: the others run again first thing, unsuspected.
    pub fn spare(&mut self) {
        let spared = std::mem::take(&mut self.flying);
        for passenger in spared.into_values().rev() {
            let queue = if passenger.suspect { &mut self.suspects } else { &mut self.waiting };
            queue.push_front(passenger);
        }
    }

    /// The child died.
    pub fn crash(&mut self) -> Death {
        let lost = std::mem::take(&mut self.flying);
        let in_flight = lost.len();
        let mut blamed = None;
        for mut passenger in lost.into_values() {
            passenger.lone_deaths += i32::from(in_flight == 1);
            passenger.suspect = true;
            if passenger.lone_deaths >= limits::LOSSES {
                blamed = Some(passenger);
            } else {
                self.suspects.push_back(passenger);
            }
        }
        Death { in_flight, blamed }
    }
}

#[cfg(test)]
mod tests {
    use tasker_domain::TaskId;

    use super::*;

    /// A flight with steps named by numbers, and the instant it began.
    fn flight_of(steps: i32) -> (Flight, Instant) {
        let (mut flight, now) = (Flight::default(), Instant::now());
        for no in 0..steps {
            flight.take(Arc::new(crate::testing::step(TaskId::from_fresh(uuid::Uuid::nil()).step(no), "x")), now);
        }
        (flight, now)
    }

    fn depart_all(flight: &mut Flight, now: Instant) -> Vec<(u64, i32)> {
        std::iter::from_fn(|| flight.depart(now).map(|(id, passenger)| (id, passenger.step.step_id.no))).collect()
    }

    fn names(departed: &[(u64, i32)]) -> Vec<i32> {
        departed.iter().map(|(_, no)| *no).collect()
    }

    #[test]
    fn all_fly_together_until_a_child_dies_and_then_the_suspects_one_at_a_time() {
        let (mut flight, now) = flight_of(3);
        assert_eq!(names(&depart_all(&mut flight, now)), [0, 1, 2]);
        flight.take(flight_of(4).0.waiting.pop_back().unwrap().step, now);
        let death = flight.crash();
        assert!(death.in_flight == 3 && death.blamed.is_none());
        for suspect in 0..3 {
            let departed = depart_all(&mut flight, now);
            assert_eq!(names(&departed), [suspect]);
            flight.land(departed[0].0).unwrap();
        }
        assert_eq!(names(&depart_all(&mut flight, now)), [3]);
    }

    #[test]
    fn the_third_lone_death_is_blamed_and_the_first_two_are_not() {
        let (mut flight, now) = flight_of(2);
        depart_all(&mut flight, now);
        assert!(flight.crash().blamed.is_none(), "two were in flight");
        let mut blamed = Vec::new();
        while let [(id, no)] = depart_all(&mut flight, now)[..] {
            if no == 0 {
                flight.land(id);
            } else {
                blamed.push(flight.crash().blamed.map(|p| p.step.step_id.no));
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
