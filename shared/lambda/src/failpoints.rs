//! Panics and process crashes at given points, for tests. `TASKER_FAILPOINTS` names a folder; a file in it arms the point of its name.

use std::{fmt::Debug, fs, path::PathBuf, time::Duration};

use tasker_aws::SqsQueue;
use tasker_queue::{Outgoing, Queue, SendResult};

fn point(name: &str) -> Option<PathBuf> {
    tasker_process::settings::path("TASKER_FAILPOINTS").map(|folder| folder.join(name))
}

/// Panics if the message contains the text in the file `panic`.
pub(crate) fn panic_on(message: &impl Debug) {
    let marker = point("panic").and_then(|file| fs::read_to_string(file).ok());
    if marker.is_some_and(|marker| !marker.trim().is_empty() && format!("{message:?}").contains(marker.trim())) {
        panic!("a failpoint");
    }
}

/// Kills the process before it sends, once for each file `die-before-send`.
pub(crate) struct DyingQueue(pub SqsQueue);

impl Queue for DyingQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        if point("die-before-send").is_some_and(|file| fs::remove_file(file).is_ok()) {
            let myself = std::process::id().to_string();
            // SIGKILL: the process flushes nothing and reports nothing.
            let _ = std::process::Command::new("kill").args(["-9", &myself]).status();
            std::thread::sleep(Duration::from_secs(60));
        }
        self.0.send(messages).await
    }
}
