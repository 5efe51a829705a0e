//! Shutdown of a process: the first signal starts a graceful end, the second one ends it immediately. A signal that is ignored when the
//! process starts stays ignored, as `nohup` (SIGHUP) and a script's `&` (SIGINT) ask for.

use std::{fs, future::poll_fn, io, pin::pin, task::Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Receives those of SIGTERM, SIGINT and SIGHUP that are not ignored, so they no longer end the process by themselves.
pub struct Shutdown(Vec<(SignalKind, Signal)>);

impl Shutdown {
    /// Starts to listen. A signal that arrives before [`Shutdown::run`] counts as its first one.
    pub fn listen() -> io::Result<Self> {
        let ignored = ignored_signals();
        let heard = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
            .into_iter()
            .filter(|kind| ignored & (1 << (kind.as_raw_value() - 1)) == 0);
        Ok(Self(heard.map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>()?))
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
        poll_fn(|context| {
            let came = self.0.iter_mut().find_map(|(kind, signal)| signal.poll_recv(context).is_ready().then_some(*kind));
            came.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The signals that this process ignores: bit `n - 1` for signal `n`. Without Linux's `/proc`, which alone shows this to safe code, none:
/// then every signal is heard.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
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
