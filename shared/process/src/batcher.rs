//! Runs calls of one kind in batches: while a batch runs, new calls wait for the next one. A call that arrives alone does not wait.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Collects calls. Each batch runs in its own tokio task, so dropping a caller cancels nothing.
pub struct Batcher<I, O> {
    /// Batches that run concurrently.
    lanes: usize,
    /// The total weight of a batch. A heavier call runs alone.
    most: usize,
    weight: fn(&I) -> usize,
    state: Mutex<State<I, O>>,
}

struct State<I, O> {
    waiting: VecDeque<(I, oneshot::Sender<O>)>,
    running: usize,
}

/// Runs one batch after the other until no call waits.
struct Lane<I, O> {
    place: Arc<Batcher<I, O>>,
    ended: bool,
}

impl<I, O> Drop for Lane<I, O> {
    fn drop(&mut self) {
        if !self.ended {
            // The lane panicked. Waiting calls may have depended on it: they get no answer, and the next call starts a new lane.
            let mut state = self.place.state.lock();
            state.running -= 1;
            state.waiting.clear();
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    pub fn new(lanes: usize, most: usize, weight: fn(&I) -> usize) -> Arc<Self> {
        Arc::new(Self { lanes, most, weight, state: Mutex::new(State { waiting: VecDeque::new(), running: 0 }) })
    }

    /// Runs a call in a batch. `carry_out` returns one answer per item, in their order. `None` if it panicked or returned too few.
    pub async fn call<F>(self: &Arc<Self>, item: I, carry_out: impl Fn(Vec<I>) -> F + Send + 'static) -> Option<O>
    where
        F: Future<Output = Vec<O>> + Send,
    {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut state = self.state.lock();
            state.waiting.push_back((item, sender));
            let begins = state.running < self.lanes;
            state.running += usize::from(begins);
            begins
        };
        if begins {
            let mut lane = Lane { place: self.clone(), ended: false };
            tokio::spawn(async move {
                while let Some((items, senders)) = lane.next_batch() {
                    for (sender, answer) in senders.into_iter().zip(carry_out(items).await) {
                        // The caller may have been dropped.
                        let _ = sender.send(answer);
                    }
                }
            });
        }
        answer.await.ok()
    }
}

impl<I, O> Lane<I, O> {
    /// `None` if no call waits. The lane ends under the same lock, so the next call starts a new one.
    fn next_batch(&mut self) -> Option<(Vec<I>, Vec<oneshot::Sender<O>>)> {
        let mut state = self.place.state.lock();
        let mut weight = 0;
        let fits = |(item, _): &&(I, oneshot::Sender<O>)| {
            weight += (self.place.weight)(item);
            weight <= self.place.most
        };
        let count = state.waiting.iter().take_while(fits).count().max(1).min(state.waiting.len());
        if count == 0 {
            state.running -= 1;
            self.ended = true;
            return None;
        }
        Some(state.waiting.drain(..count).unzip())
    }
}
