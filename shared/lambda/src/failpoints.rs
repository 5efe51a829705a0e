//! Panics and deaths at given moments, for tests: `TASKER_FAILPOINTS` names a folder, and a file in it arms a point.

use std::{fmt::Debug, fs, path::PathBuf, time::Duration};

use tasker_aws::SqsQueue;
use tasker_queue::{Outgoing, Queue, SendResult};

fn point(name: &str) -> Option<PathBuf> {
    tasker_process::settings::path("TASKER_FAILPOINTS").map(|folder| folder.join(name))
}

/// Panics when the message holds what the file `panic` says.
pub(crate) fn panic_on(message: &impl Debug) {
    let marker = point("panic").and_then(|file| fs::read_to_string(file).ok());
    if marker.is_some_and(|marker| !marker.trim().is_empty() && format!("{message:?}").contains(marker.trim())) {
        panic!("a failpoint");
    }
}

/// A queue whose process is killed before it sends, once for each time that the file `die-before-send` is put there.
pub(crate) struct Deadly(pub SqsQueue);

impl Queue for Deadly {
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<SendResult> {
        if point("die-before-send").is_some_and(|file| fs::remove_file(file).is_ok()) {
            let myself = std::process::id().to_string();
            // As hard as it comes: nothing is flushed, nobody is told.
            let _ = std::process::Command::new("kill").args(["-9", &myself]).status();
            std::thread::sleep(Duration::from_secs(60));
        }
        self.0.send(messages).await
    }
}
