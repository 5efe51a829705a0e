//! Collects concurrent calls into batches.

#![allow(clippy::unwrap_used, reason = "a test fails at the first surprise")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use parking_lot::Mutex;
use tasker_process::Batcher;
use tokio::sync::Semaphore;

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
async fn calls_that_arrive_during_a_batch_form_the_next_batch() {
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
