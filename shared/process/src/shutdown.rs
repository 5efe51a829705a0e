//! Shutdown of a process: the first signal starts a graceful end, the second one ends it immediately.

use std::{io, pin::pin};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Receives SIGTERM, SIGINT and SIGHUP, so they no longer end the process by themselves.
pub struct Shutdown([Signal; 3]);

impl Shutdown {
    /// Starts to listen. A signal that arrives before [`Shutdown::run`] counts as its first one.
    pub fn listen() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?]))
    }

    /// Runs `work` until it ends. The first signal cancels its token. The second one drops the work, and returns `None`.
    pub async fn run<T, F: Future<Output = T>>(mut self, work: impl FnOnce(CancellationToken) -> F) -> Option<T> {
        let asked = CancellationToken::new();
        let mut work = pin!(work(asked.clone()));
        tokio::select! {
            ended = &mut work => return Some(ended),
            _ = self.signal() => asked.cancel(),
        }
        tokio::select! {
            ended = &mut work => Some(ended),
            _ = self.signal() => None,
        }
    }

    /// Waits for the next signal.
    pub async fn signal(&mut self) -> SignalKind {
        let Self([terminate, interrupt, hangup]) = self;
        tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = hangup.recv() => SignalKind::hangup(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_asks_also_when_it_comes_before_the_work_begins() {
        let shutdown = Shutdown::listen().unwrap();
        raise(Signal::SIGHUP).unwrap();
        let ended = shutdown.run(|asked| async move { asked.cancelled().await });
        assert_eq!(ended.await, Some(()));
    }

    #[tokio::test]
    async fn the_second_signal_drops_the_work() {
        let shutdown = Shutdown::listen().unwrap();
        raise(Signal::SIGTERM).unwrap();
        let ended = shutdown.run(|asked| async move {
            asked.cancelled().await;
            raise(Signal::SIGINT).unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(ended.await, None);
    }
}
