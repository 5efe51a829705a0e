//! Holds the ownership of the database while the server runs.

use std::{sync::Arc, time::Duration};

use anyhow::{Result, bail};
use tasker_engine::Engine;
use tasker_process::Problems;
use tasker_queue::InProcess;
use tasker_store::Ownership;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// The pause between two questions to the server whether the ownership is still held: a connection whose other side is gone looks as a
/// quiet one does.
const ASK: Duration = Duration::from_secs(2);
/// Without an answer for so long, no step is handed over until there is one.
const ANSWER: Duration = Duration::from_secs(3);
/// Without an answer for so much longer, the connection is given up.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// The pause between two attempts to reclaim the ownership.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Takes the ownership. An error if another process has it.
pub async fn take(database_url: &str) -> Result<Ownership> {
    let Some(held) = Ownership::take(database_url).await? else {
        bail!("another tasker process uses this database; stop it, or give another --database-url or --data-dir");
    };
    Ok(held)
}

/// The process as the owner of its database.
pub struct Owner {
    pub engine: Arc<Engine<InProcess>>,
    pub problems: Problems,
}

impl Owner {
    /// Holds the ownership until `end`. While it is lost, or the server does not say that it is held, no step is handed over; once it is
    /// reclaimed, the engine recovers. If another process takes it first, this cancels `taken` and returns, because that process now runs
    /// the tasks.
    pub async fn keep(self, mut held: Ownership, end: CancellationToken, taken: CancellationToken) {
        let kept = async {
            loop {
                self.until_lost(&mut held).await;
                self.pause("the ownership of the database was lost and is not reclaimed yet");
                held = match again(&held).await {
                    Some(again) => again,
                    None => return taken.cancel(),
                };
                self.go_on();
                self.engine.recover_soon();
            }
        };
        end.run_until_cancelled(kept).await;
    }

    /// Returns when the ownership is lost, or the server has not answered for long.
    async fn until_lost(&self, held: &mut Ownership) {
        loop {
            tokio::select! {
                () = held.disconnected() => return,
                () = sleep(ASK) => {}
            }
            let mut answer = std::pin::pin!(held.is_held());
            let in_time = timeout(ANSWER, &mut answer).await;
            let answered = match in_time {
                Ok(answered) => answered,
                Err(_) => {
                    self.pause("the database does not answer on the connection that holds its ownership");
                    match timeout(LAST_ANSWER, answer).await {
                        Ok(answered) => answered.inspect(|held| {
                            if *held {
                                self.go_on()
                            }
                        }),
                        Err(_) => return,
                    }
                }
            };
            if !answered.unwrap_or(false) {
                return;
            }
        }
    }

    fn pause(&self, why: &str) {
        self.engine.queue().set_stopped(true);
        let problem = format!("{why}; no step is handed over until it is certain that no other process owns the database");
        tracing::warn!("{problem}");
        self.problems.set("ownership", [problem]);
    }

    fn go_on(&self) {
        self.engine.queue().set_stopped(false);
        self.problems.set("ownership", None);
        tracing::info!("the ownership of the database is certain again");
    }
}

/// Retries until the database answers. `None` if another process has the ownership.
async fn again(lost: &Ownership) -> Option<Ownership> {
    loop {
        sleep(TRY_AGAIN).await;
        if let Ok(answer) = lost.reclaim().await {
            return answer;
        }
    }
}
