//! The steps of all pools: a lease for each, and bodies up to a limit of memory.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::Arc,
    time::Duration,
};

use tasker_wire::{Lease, RunStep, StepId, TaskId, limits};
use tokio::sync::Notify;

use super::{InProcess, pause};
use crate::{Delivery, Disposition, Receipt, Source};

/// The number of bodies that are loaded together.
const BODIES: usize = 200;

/// Loads the bodies that the queue did not keep.
pub trait Bodies: Send + Sync + 'static {
    /// Returns the messages of dispatches, and the leases to ask for again. A lease in neither is no longer dispatched.
    fn load_bodies(self: &Arc<Self>, leases: &[Lease]) -> impl Future<Output = (Vec<RunStep>, Vec<Lease>)> + Send;
}

/// The steps of one pool. A returned step is loaded again when its turn comes.
///
/// It is never given up, however often it is returned: a worker returns only what it could not start or finish, and every fault of a
/// step is an outcome.
#[derive(Debug)]
pub struct Steps<B> {
    pub(super) queue: InProcess,
    pub(super) pool: String,
    pub(super) bodies: Arc<B>,
}

#[derive(Debug, Default)]
pub struct Pools {
    pools: HashMap<Arc<str>, Pool>,
    /// The dispatches that wait or run.
    pub held: HashMap<StepId, Held>,
    /// How many deliveries there were. A receipt's handle is such a number.
    deliveries: u64,
    /// The bytes of the bodies in all pools.
    body_bytes: usize,
    /// Delivers nothing, because another process may own the database.
    stopped: bool,
    pub gave_up: Vec<Lease>,
    /// How many deliveries their workers lost.
    pub lost: u64,
}

/// The current dispatch of a step.
#[derive(Debug)]
pub struct Held {
    pub number: i32,
    pool: Arc<str>,
    receives: u32,
    /// The number of its current delivery. `None`: it waits for the next one.
    delivery: Option<u64>,
}

#[derive(Debug)]
struct Pool {
    name: Arc<str>,
    waiting: VecDeque<Entry>,
    /// Notified when a step arrives, is loaded or may be delivered again.
    changed: Arc<Notify>,
    /// The current deliveries whose outcomes are no longer needed.
    unwanted: Vec<Receipt>,
    told: Arc<Notify>,
}

#[derive(Debug)]
struct Entry {
    lease: Lease,
    body: Option<Box<RunStep>>,
    loading: bool,
}

/// The head of a pool.
enum Head {
    Ready(Vec<Delivery<RunStep>>),
    /// Bodies to load and pass to [`Pools::loaded`].
    Load(Vec<Lease>),
    Empty,
}

impl<B: Bodies> Source for Steps<B> {
    type Message = RunStep;

    async fn receive(&self, max: usize) -> Vec<Delivery<RunStep>> {
        let changed = pool_of(&mut self.queue.0.pools.lock().pools, &self.pool).changed.clone();
        loop {
            // Listens before it reads, so that it cannot miss an arrival in between.
            let heard = changed.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let head = self.queue.0.pools.lock().head(&self.pool, max);
            match head {
                Head::Ready(steps) => return steps,
                Head::Load(leases) => self.load(leases),
                Head::Empty => heard.await,
            }
        }
    }

    async fn settle(&self, settled: Vec<(Receipt, Disposition)>) {
        // The completion of a step that is done releases its lease.
        for (receipt, disposition) in settled.into_iter().filter(|(_, disposition)| *disposition != Disposition::Done) {
            let Some(lease) = self.queue.0.pools.lock().take_back(&receipt) else { continue };
            if let Disposition::Dead(reason) = disposition {
                self.queue.0.pools.lock().give_up(lease, &reason);
                continue;
            }
            let (queue, pool) = (self.queue.clone(), self.pool.clone());
            tokio::spawn(async move {
                tokio::time::sleep(pause(receipt.receives)).await;
                queue.0.pools.lock().deliver_again(&pool, lease);
            });
        }
    }

    async fn extend(&self, deliveries: &[Receipt], time: Duration) {
        let mut pools = self.queue.0.pools.lock();
        for receipt in deliveries.iter().filter(|_| time.is_zero()) {
            let Some(lease) = pools.take_back(receipt) else { continue };
            pools.deliver_again(&self.pool, lease);
        }
    }

    async fn lost(&self, deliveries: &[Receipt]) {
        self.queue.0.pools.lock().lost += deliveries.len() as u64;
        self.extend(deliveries, Duration::ZERO).await;
    }

    async fn unwanted(&self) -> Vec<Receipt> {
        let told = pool_of(&mut self.queue.0.pools.lock().pools, &self.pool).told.clone();
        loop {
            let heard = told.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let unwanted = std::mem::take(&mut pool_of(&mut self.queue.0.pools.lock().pools, &self.pool).unwanted);
            if !unwanted.is_empty() {
                return unwanted;
            }
            heard.await;
        }
    }
}

impl<B: Bodies> Steps<B> {
    /// In a task of its own, so that nothing is lost if the receiver is dropped.
    fn load(&self, leases: Vec<Lease>) {
        let (queue, pool, bodies) = (self.queue.clone(), self.pool.clone(), self.bodies.clone());
        tokio::spawn(async move {
            let (loaded, later) = bodies.load_bodies(&leases).await;
            queue.0.pools.lock().loaded(&pool, &leases, loaded, &later);
        });
    }
}

impl Pools {
    pub fn push(&mut self, pool: &str, run: Box<RunStep>) {
        let lease = run.lease();
        if self.held.get(&lease.step).is_some_and(|held| held.number >= lease.number) {
            return;
        }
        let name = pool_of(&mut self.pools, pool).name.clone();
        let held = Held { number: lease.number, pool: name, receives: 0, delivery: None };
        if let Some(earlier) = self.held.insert(lease.step, held) {
            tell(&mut self.pools, lease.step, &earlier);
        }
        let bytes = bytes_of(&run);
        let keep = self.body_bytes + bytes <= limits::QUEUED_BYTES;
        if keep {
            self.body_bytes += bytes;
        }
        pool_of(&mut self.pools, pool).add(Entry { lease, body: keep.then_some(run), loading: false });
    }

    /// Ends a delivery. Returns its lease if the delivery is current.
    fn take_back(&mut self, receipt: &Receipt) -> Option<Lease> {
        let step = receipt.id.parse().ok()?;
        let held = self.held.get_mut(&step)?;
        let number = held.number;
        held.delivery.take_if(|delivery| receipt.handle == delivery.to_string()).map(|_| Lease { step, number })
    }

    fn deliver_again(&mut self, pool: &str, lease: Lease) {
        if waits(&self.held, lease) {
            pool_of(&mut self.pools, pool).add(Entry { lease, body: None, loading: false });
        }
    }

    /// Releases a dispatch that was answered.
    pub fn release(&mut self, lease: Lease) {
        if self.held.get(&lease.step).is_some_and(|held| held.number == lease.number) {
            self.held.remove(&lease.step);
        }
    }

    /// Releases a dispatch whose message, or whose outcome, was given up.
    pub fn give_up(&mut self, lease: Lease, reason: &str) {
        tracing::error!(step_id = %lease.step, lease = lease.number, reason, "a message was given up; its step is sent again");
        self.release(lease);
        self.gave_up.push(lease);
    }

    pub fn forget(&mut self, task: TaskId) {
        let Self { pools, held, body_bytes, .. } = self;
        let forgotten = held.extract_if(|step, _| step.task == task);
        forgotten.for_each(|(step, held)| tell(pools, step, &held));
        for pool in pools.values_mut() {
            pool.waiting.retain(|entry| {
                let stays = entry.lease.step.task != task;
                *body_bytes -= entry.body.as_ref().filter(|_| !stays).map_or(0, |body| bytes_of(body));
                stays
            });
        }
    }

    /// Forgets the dispatch of a step, if its number is one of those. A waiting entry is dropped when its turn comes.
    pub fn forget_step(&mut self, step: StepId, which: impl Fn(i32) -> bool) {
        let hash_map::Entry::Occupied(held) = self.held.entry(step) else { return };
        if which(held.get().number) {
            tell(&mut self.pools, step, &held.remove());
        }
    }

    pub fn waiting(&self) -> usize {
        let count = |pool: &Pool| pool.waiting.iter().filter(|entry| waits(&self.held, entry.lease)).count();
        self.pools.values().map(count).sum()
    }

    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
        self.pools.values().for_each(|pool| pool.changed.notify_waiters());
    }

    /// Takes at most `max` steps of a pool, or names the bodies to load.
    fn head(&mut self, pool: &str, max: usize) -> Head {
        let Self { pools, held, deliveries, body_bytes, stopped, .. } = self;
        let pool = pool_of(pools, pool);
        if *stopped {
            return Head::Empty;
        }
        let mut ready = Vec::new();
        while ready.len() < max {
            let Some(entry) = pool.waiting.front() else { break };
            // Otherwise it was answered, or a later dispatch replaced it.
            let waits = waits(held, entry.lease);
            if waits && entry.body.is_none() {
                break;
            }
            let Entry { lease, body, .. } = pool.waiting.pop_front().expect("there is a front");
            let Some(body) = body else { continue };
            *body_bytes -= bytes_of(&body);
            let Some(held) = held.get_mut(&lease.step).filter(|_| waits) else { continue };
            *deliveries += 1;
            (held.receives, held.delivery) = (held.receives + 1, Some(*deliveries));
            let receipt = Receipt { id: lease.step.to_string(), handle: deliveries.to_string(), receives: held.receives };
            ready.push(Delivery { message: Ok(*body), receipt });
        }
        if !ready.is_empty() {
            return Head::Ready(ready);
        }
        let missing = pool.waiting.iter_mut().take(BODIES).filter(|e| e.body.is_none() && !e.loading).map(|e| {
            e.loading = true;
            e.lease
        });
        let missing: Vec<Lease> = missing.collect();
        if missing.is_empty() { Head::Empty } else { Head::Load(missing) }
    }

    /// Adds the bodies that [`Head::Load`] named. `later` is asked for again. Any other lease without a body is dropped: it is no longer
    /// dispatched.
    fn loaded(&mut self, pool: &str, leases: &[Lease], bodies: Vec<RunStep>, later: &[Lease]) {
        let mut bodies: HashMap<Lease, RunStep> = bodies.into_iter().map(|b| (b.lease(), b)).collect();
        let Self { pools, held, body_bytes, .. } = self;
        let pool = pool_of(pools, pool);
        for entry in pool.waiting.iter_mut().filter(|e| e.loading) {
            if let Some(body) = bodies.remove(&entry.lease) {
                *body_bytes += bytes_of(&body);
                entry.body = Some(Box::new(body));
                entry.loading = false;
            } else if later.contains(&entry.lease) {
                entry.loading = false;
            } else if leases.contains(&entry.lease) && waits(held, entry.lease) {
                held.remove(&entry.lease.step);
            }
        }
        pool.waiting.retain(|e| !(e.loading && leases.contains(&e.lease)));
        pool.changed.notify_waiters();
    }
}

fn waits(held: &HashMap<StepId, Held>, lease: Lease) -> bool {
    held.get(&lease.step).is_some_and(|held| held.number == lease.number && held.delivery.is_none())
}

/// Tells the worker that runs a dispatch, if one does, that its outcome is no longer needed.
fn tell(pools: &mut HashMap<Arc<str>, Pool>, step: StepId, held: &Held) {
    let Some(delivery) = held.delivery else { return };
    let pool = pool_of(pools, &held.pool);
    pool.unwanted.push(Receipt { id: step.to_string(), handle: delivery.to_string(), receives: held.receives });
    pool.told.notify_waiters();
}

fn pool_of<'a>(pools: &'a mut HashMap<Arc<str>, Pool>, name: &str) -> &'a mut Pool {
    if !pools.contains_key(name) {
        let name: Arc<str> = name.into();
        pools.insert(name.clone(), Pool::of(name));
    }
    pools.get_mut(name).expect("it was just made")
}

impl Pool {
    fn of(name: Arc<str>) -> Self {
        Self { name, waiting: VecDeque::new(), changed: Arc::default(), unwanted: Vec::new(), told: Arc::default() }
    }

    fn add(&mut self, entry: Entry) {
        self.waiting.push_back(entry);
        self.changed.notify_waiters();
    }
}

/// The approximate size of a message in bytes.
fn bytes_of(run: &RunStep) -> usize {
    let results: usize = run.dependency_results.iter().map(|(k, v)| k.len() + v.get().len() + 64).sum();
    let own = run.step_inputs.as_ref().map_or(0, |i| i.get().len()) + run.checkpoint.as_ref().map_or(0, |c| c.get().len());
    1024 + run.context.get().len() + results + own
}
