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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use tokio::sync::Semaphore;

    use super::*;

    /// Runs a batch for each permit, and remembers how large it was.
    #[derive(Default)]
    struct Batches {
        sizes: Mutex<Vec<usize>>,
        permits: Option<Semaphore>,
    }

    async fn doubled(batches: Arc<Batches>, items: Vec<usize>) -> Vec<usize> {
        batches.sizes.lock().push(items.len());
        batches.permits.as_ref().unwrap().acquire().await.unwrap().forget();
        assert!(!items.contains(&13), "an unlucky batch");
        items.iter().map(|n| 2 * n).collect()
    }

    fn held() -> Arc<Batches> {
        Arc::new(Batches { permits: Some(Semaphore::new(0)), ..Default::default() })
    }

    /// Calls with these items, one after the other, each begun before the next.
    async fn begin(
        place: &Arc<Batcher<usize, usize>>,
        batches: &Arc<Batches>,
        items: &[usize],
    ) -> Vec<tokio::task::JoinHandle<Option<usize>>> {
        let mut calls = Vec::new();
        for &item in items {
            let (place, batches, begun) = (place.clone(), batches.clone(), Arc::new(AtomicUsize::new(0)));
            let told = begun.clone();
            calls.push(tokio::spawn(async move {
                let call = place.call(item, move |items| doubled(batches.clone(), items));
                told.store(1, SeqCst);
                call.await
            }));
            while begun.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        }
        calls
    }

    #[tokio::test]
    async fn calls_that_come_while_one_is_on_its_way_go_together() {
        let (place, batches) = (Batcher::new(1, 100, |_| 1), held());
        let calls = begin(&place, &batches, &[1, 2, 3, 4]).await;
        batches.permits.as_ref().unwrap().add_permits(2);
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap().unwrap());
        }
        assert_eq!((answers, batches.sizes.lock().clone()), (vec![2, 4, 6, 8], vec![1, 3]));
    }

    #[tokio::test]
    async fn a_batch_weighs_no_more_than_it_may_and_a_heavier_call_goes_alone() {
        let (place, batches) = (Batcher::new(1, 10, |n| *n), held());
        let calls = begin(&place, &batches, &[1, 4, 5, 6, 50, 2]).await;
        batches.permits.as_ref().unwrap().add_permits(10);
        for call in calls {
            assert!(call.await.unwrap().is_some());
        }
        assert_eq!(*batches.sizes.lock(), [1, 2, 1, 1, 1]);
    }

    #[tokio::test]
    async fn a_panic_answers_nothing_and_the_next_call_is_carried_out() {
        let (place, batches) = (Batcher::new(1, 100, |_| 1), held());
        let calls = begin(&place, &batches, &[13, 1]).await;
        batches.permits.as_ref().unwrap().add_permits(10);
        for call in calls {
            assert_eq!(call.await.unwrap(), None);
        }
        let batches = batches.clone();
        assert_eq!(place.call(7, move |items| doubled(batches.clone(), items)).await, Some(14));
    }
}
