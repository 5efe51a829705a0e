//! Waiting for what another process or the database does.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longer than anything takes on a busy machine. A test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a condition. `what` completes the sentence of the failure.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to be that {what}");
        let_pass(Duration::from_millis(10));
    }
}

/// Polls until something is found. `None` if that takes longer than [`PATIENCE`].
pub async fn poll<T>(pause: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(pause).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.ok()
}

/// Lets time pass, for load to run into whatever comes next. No outcome depends on how long it is.
pub fn let_pass(time: Duration) {
    let deadline = Instant::now() + time;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}
