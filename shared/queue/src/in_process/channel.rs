//! Delivers messages in the order in which they are due, and keeps them until they are settled.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{MAX_RECEIVES, POSTPONED, pause};
use crate::{Delivery, Disposition, Receipt};

#[derive(Debug)]
pub struct Channel<M> {
    /// The size in bytes above which a sender waits.
    capacity: usize,
    state: Mutex<State<M>>,
    arrived: Notify,
    settled: Notify,
}

#[derive(Debug)]
struct State<M> {
    /// Ordered by due time, then by the order of sending.
    waiting: BTreeMap<(Instant, u64), Kept<M>>,
    in_flight: HashMap<u64, Kept<M>>,
    bytes: usize,
    last: u64,
}

#[derive(Debug)]
struct Kept<M> {
    message: M,
    bytes: usize,
    /// All deliveries, which the handle of a receipt counts.
    deliveries: u32,
    /// The deliveries that were postponed.
    postponed: u32,
}

impl<M> Kept<M> {
    fn receives(&self) -> u32 {
        self.deliveries - self.postponed
    }

    /// How long it waits until its next delivery; `None` if it leaves the queue.
    fn wait_after(&mut self, disposition: &Disposition) -> Option<Duration> {
        match disposition {
            Disposition::Postponed => {
                self.postponed += 1;
                Some(POSTPONED)
            }
            Disposition::RetryLater if self.receives() < MAX_RECEIVES => Some(pause(self.receives())),
            _ => None,
        }
    }
}

impl<M: Clone> Channel<M> {
    pub fn new(capacity: usize) -> Self {
        let state = State { waiting: BTreeMap::new(), in_flight: HashMap::new(), bytes: 0, last: 0 };
        Self { capacity, state: Mutex::new(state), arrived: Notify::new(), settled: Notify::new() }
    }

    /// Waits for free capacity. A message that exceeds the capacity is accepted alone.
    pub async fn send(&self, message: M, bytes: usize, delay: Duration) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.bytes == 0 || state.bytes + bytes <= self.capacity {
                    state.bytes += bytes;
                    state.last += 1;
                    let place = (Instant::now() + delay, state.last);
                    state.waiting.insert(place, Kept { message, bytes, deliveries: 0, postponed: 0 });
                    break;
                }
            }
            settled.await;
        }
        self.arrived.notify_one();
    }

    pub async fn receive(&self, max: usize) -> Vec<Delivery<M>> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            match self.take(max) {
                Ok(taken) => return taken,
                Err(Some(next)) => drop(tokio::time::timeout_at(next, arrived).await),
                Err(None) => arrived.await,
            }
        }
    }

    /// At most `max` due messages, or the time when the next one is due.
    fn take(&self, max: usize) -> Result<Vec<Delivery<M>>, Option<Instant>> {
        let (mut taken, now) = (Vec::new(), Instant::now());
        let State { waiting, in_flight, .. } = &mut *self.state.lock();
        while taken.len() < max {
            let Some(next) = waiting.first_entry().filter(|next| next.key().0 <= now) else { break };
            let ((_, id), mut kept) = next.remove_entry();
            kept.deliveries += 1;
            let receipt = Receipt { id: id.to_string(), handle: kept.deliveries.to_string(), receives: kept.receives() };
            taken.push(Delivery { message: Ok(kept.message.clone()), receipt });
            in_flight.insert(id, kept);
        }
        let next = waiting.first_key_value().map(|((due, _), _)| *due);
        if taken.is_empty() {
            return Err(next);
        }
        if next.is_some() {
            // Wakes another receiver, which may not know the next due time.
            self.arrived.notify_one();
        }
        Ok(taken)
    }

    /// Returns the messages that are done, and those that are given up, each with the reason.
    pub fn settle(&self, settled: Vec<(Receipt, Disposition)>) -> (Vec<M>, Vec<(M, String)>) {
        let (mut done, mut given_up) = (Vec::with_capacity(settled.len()), Vec::new());
        let mut state = self.state.lock();
        for (receipt, disposition) in settled {
            let Some((id, mut kept)) = state.take_back(&receipt) else { continue };
            if let Some(wait) = kept.wait_after(&disposition) {
                state.waiting.insert((Instant::now() + wait, id), kept);
                self.arrived.notify_one();
                continue;
            }
            state.bytes -= kept.bytes;
            match disposition {
                Disposition::Done => done.push(kept.message),
                Disposition::Dead(reason) => given_up.push((kept.message, reason)),
                Disposition::RetryLater | Disposition::Postponed => {
                    given_up.push((kept.message, "it failed at its last receive".into()))
                }
            }
        }
        self.settled.notify_waiters();
        (done, given_up)
    }

    /// Deliveries do not expire, so this only returns messages whose time is zero.
    pub fn extend(&self, deliveries: &[Receipt], time: Duration) {
        let mut state = self.state.lock();
        for receipt in deliveries.iter().filter(|_| time.is_zero()) {
            let Some((id, kept)) = state.take_back(receipt) else { continue };
            state.waiting.insert((Instant::now(), id), kept);
            self.arrived.notify_one();
        }
    }
}

impl<M> State<M> {
    /// The message of a delivery that is still current.
    fn take_back(&mut self, receipt: &Receipt) -> Option<(u64, Kept<M>)> {
        let (id, delivery) = (receipt.id.parse().ok()?, receipt.handle.parse().ok());
        self.in_flight.get(&id).filter(|kept| Some(kept.deliveries) == delivery)?;
        self.in_flight.remove_entry(&id)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_completion_above_the_capacity_waits_until_capacity_is_free() {
        let channel = Channel::new(10);
        channel.send(1, 20, Duration::ZERO).await;
        let begin = Instant::now();
        let second = channel.send(2, 1, Duration::ZERO);
        tokio::pin!(second);
        assert!(timeout(Duration::from_secs(1), &mut second).await.is_err(), "the first one is larger than all of it");
        let first = channel.receive(1).await.remove(0);
        channel.settle(vec![(first.receipt, Disposition::Done)]);
        second.await;
        assert_eq!(begin.elapsed(), Duration::from_secs(1));
    }
}
