//! A worker that fetches the messages of its pool's queue itself: as many as it has free places for. What it has in hand it keeps
//! invisible, and it takes a message out of the queue only when its outcome is safe.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tasker_aws::{Clients, QueueError, Received, SqsQueue, SqsSource};
use tasker_worker::{Command, Executor};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    deployment::Deployment,
    inbox::Inbox,
    noting::Noting,
    post::{Sorted, sort},
};

/// How long one call waits for messages; SQS waits no longer.
const WAIT: Duration = Duration::from_secs(20);
/// How much longer than that such a call is let go on at the end.
const AND_ITS_ANSWER: Duration = Duration::from_secs(2);
/// The pause after a call that failed; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Messages are kept invisible anew so often in their time: when one call fails there is another chance.
const LOOKS: u32 = 3;

/// Runs the steps of the pool until `shutdown`.
pub async fn serve(
    command: Command,
    deployment: Deployment,
    shutdown: CancellationToken,
) -> Result<(), Box<dyn std::error::Error>> {
    let Deployment { queues, queue_url, settings } = deployment;
    let mailbox = SqsSource::new(Clients::waiting(WAIT).await.sqs, queue_url);
    let visibility = mailbox.visibility().await.map_err(|error| {
        let url = mailbox.url();
        format!("the queue {url} cannot be read; check TASKER_QUEUES, TASKER_POOL and what this worker may do: {error}")
    })?;
    let desk = Arc::new(Inbox::default());
    let executor = Executor::child(command, &settings).await?;
    let queue = Noting { queue: SqsQueue::new(Clients::from_env().await.sqs, queues), desk: desk.clone() };
    let (keep, kept) = mpsc::unbounded_channel();
    let keeper = tokio::spawn(keep_until_answered(mailbox.clone(), visibility, kept));
    let poller = tokio::spawn(Poller { mailbox, desk: desk.clone(), keep }.poll(shutdown.clone()));
    tasker_worker::run(desk.clone(), Arc::new(queue), executor, settings, shutdown.clone()).await;
    let asked_for = shutdown.is_cancelled();
    shutdown.cancel();
    desk.abandon();
    let polled = poller.await;
    keeper.await?;
    polled?;
    if asked_for { Ok(()) } else { Err("the worker's loop ended by itself".into()) }
}

/// A message in hand, and who hears what becomes of it.
struct Kept {
    message: Received,
    accepted: oneshot::Receiver<()>,
}

struct Poller {
    mailbox: SqsSource,
    desk: Arc<Inbox>,
    keep: mpsc::UnboundedSender<Kept>,
}

impl Poller {
    async fn poll(self, shutdown: CancellationToken) {
        // Without it nothing would ever come again, so its end is everybody's.
        let _end = shutdown.clone().drop_guard();
        let mut failures: u32 = 0;
        while let Some(places) = shutdown.run_until_cancelled(self.desk.demand()).await {
            let mut call = pin!(self.mailbox.receive(places, WAIT));
            match shutdown.run_until_cancelled(call.as_mut()).await {
                None => {
                    self.desk.close();
                    self.give_back(call).await;
                }
                Some(Ok(messages)) => {
                    if failures > 0 {
                        tracing::info!(failures, "messages can be received again");
                    }
                    failures = 0;
                    self.take_in(messages).await;
                }
                Some(Err(error)) => {
                    if failures == 0 {
                        tracing::warn!(%error, "messages cannot be received; it is tried again");
                    }
                    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
                    failures += 1;
                    shutdown.run_until_cancelled(sleep(pause)).await;
                }
            }
        }
        self.desk.close();
    }

    /// Lets a call end that was under way at the shutdown: what it was given already, nobody else would see for long.
    async fn give_back(&self, call: impl Future<Output = Result<Vec<Received>, QueueError>>) {
        if let Ok(Ok(messages)) = timeout(WAIT + AND_ITS_ANSWER, call).await {
            self.mailbox.keep(&messages.iter().collect::<Vec<_>>(), Duration::ZERO).await;
        }
    }

    async fn take_in(&self, messages: Vec<Received>) {
        let (mut bearers, mut steps, mut later) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            match sort(&message) {
                Sorted::Step(step) => {
                    bearers.push(message);
                    steps.push(*step);
                }
                Sorted::Dead(reason) => {
                    if self.mailbox.bury(&message, &reason).await {
                        self.mailbox.delete(&[&message]).await;
                    } else {
                        later.push(message);
                    }
                }
                Sorted::Again => later.push(message),
            }
        }
        for (message, accepted) in bearers.into_iter().zip(self.desk.put(steps, None)) {
            // The keeper lives as long as somebody may give it messages.
            let _ = self.keep.send(Kept { message, accepted });
        }
        // They are not at fault: soon, and later each time, so that their receives last.
        self.mailbox.postpone(&later.iter().collect::<Vec<_>>()).await;
    }
}

/// Keeps messages invisible until their outcome is accepted, and then deletes them; those that are not run here after all are made
/// visible at once. Ends when there are none and none will come.
async fn keep_until_answered(mailbox: SqsSource, visibility: Duration, mut kept: mpsc::UnboundedReceiver<Kept>) {
    let mut in_hand: HashMap<u64, Received> = HashMap::new();
    let mut waiting: FuturesUnordered<BoxFuture<'static, (u64, bool)>> = FuturesUnordered::new();
    let period = (visibility / LOOKS).max(Duration::from_millis(100));
    let mut looks = interval_at(Instant::now() + period, period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open = true;
    for number in 0.. {
        tokio::select! {
            next = kept.recv(), if open => match next {
                Some(Kept { message, accepted }) => {
                    in_hand.insert(number, message);
                    waiting.push(accepted.map(move |result| (number, result.is_ok())).boxed());
                }
                None => open = false,
            },
            Some(first) = waiting.next() => {
                let (mut done, mut not_run) = (Vec::new(), Vec::new());
                let mut next = Some(first);
                while let Some((number, accepted)) = next {
                    if let Some(message) = in_hand.remove(&number) {
                        if accepted { done.push(message) } else { not_run.push(message) }
                    }
                    next = waiting.next().now_or_never().flatten();
                }
                mailbox.delete(&done.iter().collect::<Vec<_>>()).await;
                mailbox.keep(&not_run.iter().collect::<Vec<_>>(), Duration::ZERO).await;
            }
            _ = looks.tick(), if !in_hand.is_empty() => {
                mailbox.keep(&in_hand.values().collect::<Vec<_>>(), visibility).await;
            }
        }
        if !open && in_hand.is_empty() {
            return;
        }
    }
}
