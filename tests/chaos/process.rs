//! A process of the orchestrator that can be killed: an engine, with its own ways to the database and to the queue.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use anyhow::{Result, bail};
use tasker_engine::{Engine, OperatorError, SubmitError};
use tasker_store::StoreError;
use tasker_test_support::Chance;
use tokio_util::sync::CancellationToken;

use crate::{
    faults::{Fault, Faults},
    queue::{Timed, Wire},
    rig::{Rig, engine},
    statement_proxy::{Cut, Order, StatementProxy},
};

/// The text of the statement that marks a step as sent.
pub const SENT: &str = "set wake_at = tasker.clock_after(k.ms)";

pub struct Process {
    pub engine: Arc<Engine<Wire>>,
    proxy: StatementProxy,
    kill: Arc<AtomicBool>,
    killed: CancellationToken,
}

/// The result of a call.
pub enum Called<T> {
    Answered(T),
    /// It is unknown whether the call was carried out.
    Lost,
}

impl Process {
    pub fn start(rig: &Rig, queue: &Arc<Timed>, over: &CancellationToken, seed: u64) -> Self {
        let proxy = StatementProxy::open(&rig.sessions);
        let (kill, killed) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        let wire = Wire { queue: queue.clone(), kill: kill.clone(), killed: killed.clone(), over: over.clone() };
        Self { engine: engine(&proxy, wire, seed), proxy, kill, killed }
    }

    /// Ends all of it before this returns.
    pub async fn end(self) {
        self.killed.cancel();
        self.proxy.close().await;
    }

    /// Perhaps injects a fault into the next call of a statement.
    pub fn inject(&self, chance: &mut Chance, faults: &Faults, statement: &'static str) {
        let (roll, times, early) = (chance.number() % 1000, 1 + usize::from(chance.permille(250)), chance.permille(500));
        if faults.enough() {
            return;
        }
        let order = |statement, cut| self.proxy.order(Some(Order { statement, cut, times }));
        match roll {
            0..35 => drop(order(statement, Cut::Before)),
            35..80 => drop(order(statement, Cut::Inside)),
            80..120 => drop(order(SENT, if early { Cut::Before } else { Cut::Inside })),
            120..150 => self.kill.store(true, SeqCst),
            _ => {}
        }
    }

    /// Makes a call, which ends early if the process dies during it. Also answers the cuts, and whether the process is dead.
    pub async fn call<T, E: Fails>(
        &self,
        verb: impl Future<Output = Result<T, E>>,
    ) -> Result<(Called<Result<T, E>>, Vec<Order>, bool)> {
        let answer = tokio::select! {
            biased;
            answer = verb => Some(answer),
            () = self.killed.cancelled() => None,
        };
        self.kill.store(false, SeqCst);
        let cuts = self.proxy.order(None);
        let called = match answer {
            None => Called::Lost,
            Some(Err(e)) if e.is_lost() && !cuts.is_empty() => Called::Lost,
            Some(Err(e)) => match e.of_store() {
                Some(fault) => bail!("the database refused: {fault}"),
                None => Called::Answered(Err(e)),
            },
            Some(ok) => Called::Answered(ok),
        };
        Ok((called, cuts, self.killed.is_cancelled()))
    }
}

/// Counts cuts as faults.
pub fn note_cuts(faults: &Faults, cuts: &[Order]) {
    for order in cuts {
        faults.note(match order.cut {
            _ if order.statement == SENT => Fault::CutAfterSend,
            Cut::Before => Fault::CutBeforeCommit,
            Cut::Inside => Fault::CutInCommit,
        });
    }
}

/// An error that may be the database's.
pub trait Fails {
    fn of_store(&self) -> Option<&StoreError>;

    /// Whether the database did not answer, so the call may have taken effect.
    fn is_lost(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Unavailable(_) | StoreError::Unanswered(_)))
    }
}

impl Fails for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl Fails for SubmitError {
    fn of_store(&self) -> Option<&StoreError> {
        if let Self::Store(e) = self { Some(e) } else { None }
    }

    fn is_lost(&self) -> bool {
        // A request that is refused was certainly not accepted.
        matches!(self, Self::Unconfirmed { .. })
    }
}

impl Fails for OperatorError {
    fn of_store(&self) -> Option<&StoreError> {
        if let Self::Store(e) = self { Some(e) } else { None }
    }
}
