//! A batch of messages, worked on so that what is wrong with one is never paid for by its neighbours.

use std::{collections::HashSet, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use serde_json::{json, value::RawValue, value::to_raw_value};
use tasker_aws::{Batch, Received, SqsSource, Unreadable, step_of};
use tasker_process::panic_text;
use tasker_store::StoreError;
use tasker_wire::StepId;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    Instance,
    instance::{FunctionEngine, NoEngine},
    serve::Failed,
};

/// Left of an invocation when it answers, whatever is not done then.
const TO_ANSWER: Duration = Duration::from_secs(3);

/// How much of that it may take to put messages off.
const TO_POSTPONE: Duration = Duration::from_secs(2);

/// A message that was read.
pub(crate) struct Letter<T> {
    pub received: Received,
    pub content: T,
}

/// What a message asks for.
pub(crate) trait Content: Clone + Send + Sync + 'static {
    /// Its word in an operator's list.
    const KIND: &'static str;
    /// Reads it.
    fn read(received: &Received) -> Result<Self, Unreadable>;
    /// The step that it is about, and its lease.
    fn step(&self) -> Option<(StepId, i32)>;
}

/// What became of a message that was worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done with.
    Done,
    /// It can never be, and why.
    Dead(String),
    /// The world is unwell: it comes again, later each time.
    Later,
}

/// Why a batch was not worked on.
enum Broken {
    /// The world is unwell.
    World(String),
    /// Something is wrong with one of its messages, or with us.
    Us(String),
}

/// Works on a batch by `work`, which answers a fate for each message in their order. Answers the ids that must come again.
pub(crate) async fn messages<T, F, Fut>(
    instance: &Instance,
    batch: Batch,
    time_left: Duration,
    work: F,
) -> Result<Box<RawValue>, Failed>
where
    T: Content,
    F: Fn(std::sync::Arc<FunctionEngine>, Vec<Letter<T>>) -> Fut + Sync,
    Fut: Future<Output = Result<Vec<Fate>, StoreError>> + Send,
{
    let mailbox = instance.mailbox(&batch.queue_arn).ok_or_else(|| {
        Failed(format!("the messages come from `{}`, which is no queue of SQS: TASKER_QUEUES cannot name it", batch.queue_arn))
    })?;
    let until = Instant::now() + time_left.saturating_sub(TO_ANSWER);
    let mut post =
        Post { instance, mailbox, work: &work, until, done: HashSet::new(), again: vec![], later: vec![], unwell: None };
    let (mut good, mut last, mut dead) = (Vec::new(), Vec::new(), Vec::new());
    for received in batch.messages {
        match T::read(&received) {
            Ok(content) if received.receives >= instance.max_receives() => last.push(Letter { received, content }),
            Ok(content) => good.push(Letter { received, content }),
            Err(Unreadable::Malformed(reason)) => dead.push((received, reason)),
            Err(other @ Unreadable::OtherVersion(_)) => {
                tracing::warn!(message_id = received.id, reason = %other, "a message of another version; it comes again");
                post.later.push(received);
            }
        }
    }
    // First what can be done.
    post.together(good).await;
    for letter in last {
        post.last_time(letter).await;
    }
    for (received, reason) in dead {
        post.bury(received, &reason).await;
    }
    Ok(post.answer().await)
}

struct Post<'a, F> {
    instance: &'a Instance,
    mailbox: SqsSource,
    work: &'a F,
    /// When the invocation must answer.
    until: Instant,
    /// The ids of what succeeded.
    done: HashSet<String>,
    again: Vec<Received>,
    later: Vec<Received>,
    /// Why the world is unwell, if that is known.
    unwell: Option<String>,
}

impl<F> Post<'_, F> {
    /// Works on messages in one go; when that breaks, on each alone.
    async fn together<T, Fut>(&mut self, letters: Vec<Letter<T>>)
    where
        T: Content,
        F: Fn(std::sync::Arc<FunctionEngine>, Vec<Letter<T>>) -> Fut,
        Fut: Future<Output = Result<Vec<Fate>, StoreError>> + Send,
    {
        if letters.is_empty() {
            return;
        }
        match self.attempt(&letters).await {
            Ok(fates) => self.settle(letters, fates).await,
            Err(Broken::World(reason)) => {
                self.unwell = Some(reason);
                self.later.extend(letters.into_iter().map(|l| l.received));
            }
            Err(Broken::Us(reason)) if letters.len() == 1 => {
                let received = letters.into_iter().next().expect("there is one").received;
                tracing::error!(message_id = received.id, receives = received.receives, reason, "a message could not be handled");
                self.again.push(received);
            }
            Err(Broken::Us(_)) => {
                for letter in letters {
                    Box::pin(self.together(vec![letter])).await;
                }
            }
        }
    }

    /// The queue gives the message up after this: what is about it is noted before, and struck out if it succeeds.
    async fn last_time<T, Fut>(&mut self, letter: Letter<T>)
    where
        T: Content,
        F: Fn(std::sync::Arc<FunctionEngine>, Vec<Letter<T>>) -> Fut,
        Fut: Future<Output = Result<Vec<Fate>, StoreError>> + Send,
    {
        let entry = match self.in_time(self.note(&letter)).await {
            Ok(entry) => entry,
            Err(reason) => {
                tracing::error!(message_id = letter.received.id, reason, "a message at its last receive cannot be noted");
                None
            }
        };
        let id = letter.received.id.clone();
        self.together(vec![letter]).await;
        if let Some(entry) = entry.filter(|_| self.done.contains(&id))
            && let Ok(engine) = self.instance.engine().await
            && let Err(error) = engine.store().remove_dlq_entry(entry).await
        {
            tracing::warn!(%entry, %error, "the entry about a message that was handled stays until the sweep finds it");
        }
    }

    async fn note<T: Content>(&self, letter: &Letter<T>) -> Result<Option<Uuid>, NoEngine> {
        let Some((step, lease)) = letter.content.step() else { return Ok(None) };
        let received = &letter.received;
        let known = json!({"message_id": received.id, "kind": T::KIND, "lease": lease, "receives": received.receives,
            "queue": self.queue(), "reason": "the message was received so often without success"});
        let engine = self.instance.engine().await?;
        Ok(engine.store().open_dlq_entry(step, "poison_message", &known.to_string()).await?)
    }

    async fn attempt<T, Fut>(&self, letters: &[Letter<T>]) -> Result<Vec<Fate>, Broken>
    where
        T: Content,
        F: Fn(std::sync::Arc<FunctionEngine>, Vec<Letter<T>>) -> Fut,
        Fut: Future<Output = Result<Vec<Fate>, StoreError>> + Send,
    {
        let engine = self.in_time(self.instance.engine()).await.map_err(Broken::World)?;
        let copy = |l: &Letter<T>| Letter { received: l.received.clone(), content: l.content.clone() };
        let work = async {
            #[cfg(feature = "failpoints")]
            letters.iter().for_each(|l| crate::failpoints::panic_on(&l.received.body));
            (self.work)(engine, letters.iter().map(copy).collect()).await
        };
        let Ok(worked) = timeout_at(self.until, AssertUnwindSafe(work).catch_unwind()).await else {
            // It goes on, or is cut off where it stands: both are safe, and what was done is a duplicate next time.
            return Err(Broken::World("the time of the invocation is over".into()));
        };
        match worked {
            Ok(Ok(fates)) if fates.len() == letters.len() => Ok(fates),
            Ok(Ok(fates)) => Err(Broken::Us(format!("{} fates for {} messages", fates.len(), letters.len()))),
            Ok(Err(e)) if e.is_transient() => Err(Broken::World(e.to_string())),
            Ok(Err(e)) => Err(Broken::Us(e.to_string())),
            Err(panic) => Err(Broken::Us(format!("it panicked: {}", panic_text(&*panic)))),
        }
    }

    async fn settle<T: Content>(&mut self, letters: Vec<Letter<T>>, fates: Vec<Fate>) {
        for (letter, fate) in letters.into_iter().zip(fates) {
            match fate {
                Fate::Done => drop(self.done.insert(letter.received.id)),
                Fate::Later => self.later.push(letter.received),
                Fate::Dead(reason) => self.bury(letter.received, &reason).await,
            }
        }
    }

    /// Puts what can never be handled into the dead-letter queue, and notes it when it is about a step.
    async fn bury(&mut self, received: Received, reason: &str) {
        if let Some(step) = step_of(&received.body) {
            let known = json!({"message_id": received.id, "queue": self.queue(), "reason": reason});
            let noted = async {
                let engine = self.instance.engine().await?;
                Ok::<_, NoEngine>(engine.store().open_dlq_entry(step, "malformed_message", &known.to_string()).await?)
            };
            if let Err(reason) = self.in_time(noted).await {
                tracing::warn!(message_id = received.id, reason, "a dead letter cannot be noted; it comes again");
                self.later.push(received);
                return;
            }
        }
        if !self.mailbox.bury(&received, reason).await {
            self.later.push(received);
        }
    }

    /// What something says, unless the world is known to be unwell or the time is over before it does.
    async fn in_time<T>(&self, something: impl Future<Output = Result<T, NoEngine>>) -> Result<T, String> {
        if let Some(reason) = &self.unwell {
            return Err(reason.clone());
        }
        match timeout_at(self.until, something).await {
            Ok(result) => result.map_err(|e| e.to_string()),
            Err(_) => Err("the time of the invocation is over".into()),
        }
    }

    fn queue(&self) -> &str {
        self.mailbox.url().rsplit('/').next().unwrap_or_default()
    }

    async fn answer(self) -> Box<RawValue> {
        if !self.later.is_empty() {
            tracing::warn!(messages = self.later.len(), reason = self.unwell, "messages come again later");
        }
        // What does not go through in time comes again when its visibility time-out is over.
        let later: Vec<&Received> = self.later.iter().collect();
        let _ = timeout_at(self.until + TO_POSTPONE, self.mailbox.postpone(&later)).await;
        to_raw_value(&Batch::answer(self.again.iter().chain(&self.later))).expect("an answer serializes")
    }
}
