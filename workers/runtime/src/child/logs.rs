//! Forwards a child's stdout and stderr as log lines. It never stops reading, so a flood does not block the child. It keeps a bounded
//! part of each line and a bounded number of lines per second, and logs how many it dropped.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tasker_wire::limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};

/// The last lines of a child's stderr, which may explain its death.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl LastLines {
    const KEPT: usize = 5;
    const BYTES: usize = 500;

    fn push(&self, line: &[u8]) {
        let mut lines = self.0.lock();
        if lines.len() == Self::KEPT {
            lines.pop_front();
        }
        lines.push_back(line[..line.len().min(Self::BYTES)].to_vec());
    }

    /// Oldest first.
    pub fn get(&self) -> Vec<String> {
        self.0.lock().iter().map(|line| readable(line)).collect()
    }
}

#[derive(Debug, Clone)]
pub(super) struct LogSource {
    pub pool: String,
    pub pid: u32,
    pub stream: &'static str,
    pub last: Option<LastLines>,
    /// Counts the bytes.
    pub read: Arc<AtomicU64>,
}

/// Forwards until the stream ends.
pub(super) async fn forward(mut stream: impl AsyncRead + Unpin, source: LogSource) {
    let mut lines = Splitter::default();
    let mut budget = Budget::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        source.read.fetch_add(count as u64, Ordering::Relaxed);
        lines.split(&chunk[..count], |line, cut| source.log(line, cut, &mut budget));
        // During a flood there is always data; other tasks on this thread must run too.
        tokio::task::yield_now().await;
    }
    lines.finish(|line, cut| source.log(line, cut, &mut budget));
    source.log_left_out(budget.left_out);
}

impl LogSource {
    fn log(&self, line: &[u8], cut: bool, budget: &mut Budget) {
        if let Some(last) = &self.last {
            last.push(line);
        }
        // Before formatting, because most lines of a flood are only counted.
        let Some(left_out) = budget.spend(Instant::now()) else { return };
        self.log_left_out(left_out);
        let (text, end) = (readable(line), if cut { "…" } else { "" });
        tracing::info!(target: "worker", pool = self.pool, pid = self.pid, stream = self.stream, "{text}{end}");
    }

    fn log_left_out(&self, lines: u64) {
        if lines > 0 {
            let Self { pool, pid, stream, .. } = self;
            tracing::warn!(target: "worker", pool, pid, stream, left_out = lines, "the worker logs more lines per second than are kept");
        }
    }
}

/// Cuts a stream into lines of bounded length.
#[derive(Default)]
struct Splitter {
    line: Vec<u8>,
    cut: bool,
}

impl Splitter {
    fn split(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend(&bytes[..end]);
            self.emit(&mut each);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes);
    }

    fn finish(&mut self, mut each: impl FnMut(&[u8], bool)) {
        if !self.line.is_empty() {
            self.emit(&mut each);
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = limits::LOG_LINE_BYTES - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn emit(&mut self, each: &mut impl FnMut(&[u8], bool)) {
        each(&self.line, self.cut);
        self.line.clear();
        self.cut = false;
    }
}

fn readable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end().chars().map(harmless).collect()
}

/// Control characters could colour, clear or forge the log.
fn harmless(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

/// Limits the lines kept per second.
struct Budget {
    second: Instant,
    kept: u32,
    left_out: u64,
}

impl Budget {
    fn new() -> Self {
        Self { second: Instant::now(), kept: 0, left_out: 0 }
    }

    /// `None` if the line is dropped. Otherwise the number of lines dropped before it.
    fn spend(&mut self, now: Instant) -> Option<u64> {
        if now - self.second >= Duration::from_secs(1) {
            self.second = now;
            self.kept = 0;
        }
        if self.kept == limits::LOG_LINES_PER_SECOND {
            self.left_out += 1;
            return None;
        }
        self.kept += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let mut lines = Vec::new();
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.split(chunk, |line, cut| lines.push((readable(line), cut)));
        }
        splitter.finish(|line, cut| lines.push((readable(line), cut)));
        lines
    }

    #[test]
    fn lines_are_joined_over_chunks_and_the_last_one_needs_no_end() {
        let lines = lines_of(&[b"a\nb", b"c\r\n\nd"]);
        assert_eq!(lines, ["a", "bc", "", "d"].map(|line| (line.to_owned(), false)));
    }

    #[test]
    fn a_long_line_is_cut_and_control_characters_are_replaced() {
        let long = "x".repeat(limits::LOG_LINE_BYTES + 1);
        let lines = lines_of(&[long.as_bytes(), b"yy\n\x1b[31mred\xff\n"]);
        assert_eq!((lines[0].0.len(), lines[0].1), (limits::LOG_LINE_BYTES, true));
        assert_eq!(lines[1], ("\u{fffd}[31mred\u{fffd}".to_owned(), false));
    }

    #[test]
    fn lines_beyond_the_second_s_budget_are_counted_and_told() {
        let mut budget = Budget::new();
        let start = budget.second;
        for _ in 0..limits::LOG_LINES_PER_SECOND {
            assert_eq!(budget.spend(start), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(budget.spend(start), None);
        }
        assert_eq!(budget.spend(start + Duration::from_secs(1)), Some(7));
        assert_eq!(budget.spend(start + Duration::from_secs(1)), Some(0));
    }
}
