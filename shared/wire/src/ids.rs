//! The ids of tasks and steps. A step's public id contains the id of its task.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The low bits of a UUID: zero in a task's, the step's number in a step's.
const STEP_BITS: u32 = 28;
const STEP_MASK: u128 = (1 << STEP_BITS) - 1;

/// The step numbers of one position in a template: the first is the step itself, further ones are its batch workers.
pub const NUMBERS_PER_POSITION: i32 = 16_384;

/// A step's number in its task: a topological number, so a parent's is always lower. At least 1, so that no step shares its
/// task's UUID, and below 2^28.
pub type StepNo = i32;

/// A task's id: a UUID whose low 28 bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// Makes a task id from a fresh UUID by clearing its low 28 bits. Version 7 makes ids sort by time.
    pub fn from_fresh(uuid: Uuid) -> Self {
        Self(Uuid::from_u128(uuid.as_u128() & !STEP_MASK))
    }

    /// `None` if the low 28 bits are not zero: no task has such an id.
    pub fn from_uuid(uuid: Uuid) -> Option<Self> {
        (uuid.as_u128() & STEP_MASK == 0).then_some(Self(uuid))
    }

    /// The UUID that the database stores and clients see.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// The public id of step `no` of this task.
    pub fn step(self, no: StepNo) -> StepId {
        StepId { task: self, no }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The string is not the id of a task or step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this system")]
pub struct NotAnId;

impl FromStr for TaskId {
    type Err = NotAnId;

    fn from_str(s: &str) -> Result<Self, NotAnId> {
        Uuid::parse_str(s).ok().and_then(Self::from_uuid).ok_or(NotAnId)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let uuid = Uuid::deserialize(d)?;
        Self::from_uuid(uuid).ok_or_else(|| serde::de::Error::custom("not the id of a task"))
    }
}

/// A step's public id: its task's UUID with the step's number in the low 28 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId {
    pub task: TaskId,
    /// The step's number in its task.
    pub no: StepNo,
}

impl StepId {
    /// The UUID that clients see.
    pub fn uuid(self) -> Uuid {
        Uuid::from_u128(self.task.0.as_u128() | (self.no as u32 as u128 & STEP_MASK))
    }

    /// Every UUID is a valid step id.
    pub fn from_uuid(uuid: Uuid) -> Self {
        let no = (uuid.as_u128() & STEP_MASK) as StepNo;
        Self { task: TaskId::from_fresh(uuid), no }
    }

    /// Position of the step in its template's topological order; none for a number that no step has.
    pub fn position(self) -> Option<usize> {
        position(self.no)
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid().fmt(f)
    }
}

impl FromStr for StepId {
    type Err = NotAnId;

    fn from_str(s: &str) -> Result<Self, NotAnId> {
        Uuid::parse_str(s).map(Self::from_uuid).map_err(|_| NotAnId)
    }
}

impl Serialize for StepId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.uuid().serialize(s)
    }
}

impl<'de> Deserialize<'de> for StepId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Uuid::deserialize(d).map(Self::from_uuid)
    }
}

/// The number of the step at `position` of its template's topological order.
pub fn step_no(position: usize) -> StepNo {
    (position as StepNo + 1) * NUMBERS_PER_POSITION
}

/// The position of the step with this number; see [`StepId::position`].
pub fn position(no: StepNo) -> Option<usize> {
    usize::try_from(no / NUMBERS_PER_POSITION - 1).ok()
}

/// Whether the step with this number was made as a worker of a batch.
pub fn is_worker(no: StepNo) -> bool {
    no % NUMBERS_PER_POSITION > 0
}

/// The id by which Tasker's clients identify a step's *name*: a UUIDv5 of namespace, template and step name.
pub fn named_step_uuid(namespace: &str, template: &str, step: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("tasker/{namespace}/{template}/{step}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_id_holds_its_task_and_its_number() {
        let task = TaskId::from_fresh(Uuid::from_u128(u128::MAX));
        for no in [1, step_no(0), step_no(9_999), step_no(9_999) + 16_383] {
            let step = task.step(no);
            assert_eq!(StepId::from_uuid(step.uuid()), step);
        }
        assert_eq!((step_no(0), step_no(9_999) < 1 << STEP_BITS), (16_384, true));
        assert_eq!(task.step(step_no(7) + 3).position(), Some(7));
    }

    #[test]
    fn the_first_step_has_another_uuid_than_its_task() {
        let task = TaskId::from_fresh(Uuid::from_u128(u128::MAX));
        assert_ne!(task.step(step_no(0)).uuid(), task.uuid());
        assert_eq!(StepId::from_uuid(task.uuid()).position(), None);
    }

    #[test]
    fn an_id_with_low_bits_is_not_a_task() {
        let task = TaskId::from_fresh(Uuid::from_u128(1 << 100));
        assert_eq!(task.to_string().parse(), Ok(task));
        assert_eq!(task.step(5).to_string().parse::<TaskId>(), Err(NotAnId));
    }
}
