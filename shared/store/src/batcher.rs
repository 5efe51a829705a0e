//! Calls of one kind that come at once are carried out together: while one batch is on its way, those that come gather for
//! the next. A call that comes alone waits for nobody.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A place where calls gather. Batches are tasks of their own: a caller that goes away takes nothing with it.
pub struct Batcher<I, O> {
    /// Batches that are on their way at once.
    lanes: usize,
    /// What the calls of a batch may weigh together; a heavier one goes alone.
    most: usize,
    weight: fn(&I) -> usize,
    state: Mutex<State<I, O>>,
}

struct State<I, O> {
    waiting: VecDeque<(I, oneshot::Sender<O>)>,
    under_way: usize,
}

/// A batch that is on its way, and those that follow it.
struct Lane<I, O> {
    place: Arc<Batcher<I, O>>,
    ended: bool,
}

impl<I, O> Drop for Lane<I, O> {
    fn drop(&mut self) {
        if !self.ended {
            // It panicked. Those that wait might rely on it: they get no answer, and whoever comes next begins anew.
            let mut state = self.place.lock();
            state.under_way -= 1;
            state.waiting.clear();
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// An empty place.
    pub fn new(lanes: usize, most: usize, weight: fn(&I) -> usize) -> Arc<Self> {
        Arc::new(Self { lanes, most, weight, state: Mutex::new(State { waiting: VecDeque::new(), under_way: 0 }) })
    }

    /// Carries a call out with those that wait by then; `carry_out` answers each of its items, in their order.
    /// `None`: it panicked, or answered too little.
    pub async fn call<F>(self: &Arc<Self>, item: I, carry_out: impl Fn(Vec<I>) -> F + Send + 'static) -> Option<O>
    where
        F: Future<Output = Vec<O>> + Send,
    {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut state = self.lock();
            state.waiting.push_back((item, sender));
            let begins = state.under_way < self.lanes;
            state.under_way += usize::from(begins);
            begins
        };
        if begins {
            let mut lane = Lane { place: self.clone(), ended: false };
            tokio::spawn(async move {
                while let Some((items, senders)) = lane.next_batch() {
                    for (sender, answer) in senders.into_iter().zip(carry_out(items).await) {
                        // Its caller may have gone away.
                        let _ = sender.send(answer);
                    }
                }
            });
        }
        answer.await.ok()
    }
}

impl<I, O> Batcher<I, O> {
    fn lock(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<I, O> Lane<I, O> {
    /// `None`: nobody waits, and the lane is given free, under the same lock: whoever comes now begins another one.
    fn next_batch(&mut self) -> Option<(Vec<I>, Vec<oneshot::Sender<O>>)> {
        let mut state = self.place.lock();
        let mut weight = 0;
        let fits = |(item, _): &&(I, oneshot::Sender<O>)| {
            weight += (self.place.weight)(item);
            weight <= self.place.most
        };
        let count = state.waiting.iter().take_while(fits).count().max(1).min(state.waiting.len());
        if count == 0 {
            state.under_way -= 1;
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

    /// Carries out batches as permits come, and remembers how large they were.
    #[derive(Default)]
    struct Batches {
        sizes: Mutex<Vec<usize>>,
        permits: Option<Semaphore>,
    }

    async fn doubled(batches: Arc<Batches>, items: Vec<usize>) -> Vec<usize> {
        batches.sizes.lock().unwrap().push(items.len());
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
        assert_eq!((answers, batches.sizes.lock().unwrap().clone()), (vec![2, 4, 6, 8], vec![1, 3]));
    }

    #[tokio::test]
    async fn a_batch_weighs_no_more_than_it_may_and_a_heavier_call_goes_alone() {
        let (place, batches) = (Batcher::new(1, 10, |n| *n), held());
        let calls = begin(&place, &batches, &[1, 4, 5, 6, 50, 2]).await;
        batches.permits.as_ref().unwrap().add_permits(10);
        for call in calls {
            assert!(call.await.unwrap().is_some());
        }
        assert_eq!(*batches.sizes.lock().unwrap(), [1, 2, 1, 1, 1]);
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
