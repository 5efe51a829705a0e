use super::{Created, Decided};
use crate::template::Workflow;
use serde_json::value::RawValue;
use tasker_wire::{Failure, Outcome, StepNo};

#[derive(Debug)]
pub struct Expansion {
    pub created: Created,
    pub workers: Vec<NewWorker>,
    pub parallelism: Option<u32>,
    pub result: Option<Box<RawValue>>,
}
#[derive(Debug)]
pub struct NewWorker {
    pub name: String,
    pub inputs: Box<RawValue>,
}
pub struct Redo {
    pub reset: Vec<StepNo>,
    pub deleted: Vec<StepNo>,
    pub parents: Vec<(StepNo, Vec<StepNo>)>,
}
impl Workflow {
    pub fn expansion(&self, _position: usize, _outcome: &Outcome) -> Result<Expansion, Failure> {
        unimplemented!()
    }
    pub fn settled(&self, _position: usize, _outcome: &Outcome) -> Result<Expansion, Failure> {
        unimplemented!()
    }
    pub fn redo(&self, _decided: &Decided, _from: StepNo) -> Redo {
        unimplemented!()
    }
}
