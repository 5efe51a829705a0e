//! Text for stdout and stderr while a process works. A thread writes it, so a reader that stops, a full disk and a closed pipe block
//! nothing. Text beyond the buffer is dropped and counted, and the count is logged once the stream takes text again.

use std::{
    io::{self, IsTerminal},
    mem,
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use parking_lot::{Condvar, Mutex};

use crate::settings;

/// Bytes that may wait for a stream: seconds of heavy logging, and little beside the rest of a process. As many may be in the thread's hands.
const WAITING_BYTES: usize = 1024 * 1024;
/// The pause before a stream that refuses text is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// The same for a non-blocking stream that is only full.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
/// How long a process that ends waits for each reader.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whether the environment refuses colours and redrawn lines on any terminal: by `TERM=dumb`, or none, or by `NO_COLOR`.
pub fn styles_are_refused() -> bool {
    let is_smart = settings::path("TERM").is_some_and(|term| term.as_os_str() != "dumb");
    !is_smart || settings::path("NO_COLOR").is_some()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(crate) fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => io::stdout().is_terminal(),
            Self::Stderr => io::stderr().is_terminal(),
        }
    }

    /// Whether it is a terminal that takes colours and redrawn lines.
    pub fn takes_styles(self) -> bool {
        self.is_terminal() && !styles_are_refused()
    }

    fn write(self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Stdout => nix::unistd::write(io::stdout(), bytes),
            Self::Stderr => nix::unistd::write(io::stderr(), bytes),
        }
    }

    /// The lines of this stream. The first call starts its thread.
    pub(crate) fn lines(self) -> &'static Arc<Lines> {
        self.place().get_or_init(|| {
            let lines = Arc::new(Lines::default());
            let writer = lines.clone();
            let write = move || writer.write_for_ever(self);
            thread::Builder::new().name("lines".into()).spawn(write).expect("a thread can be started");
            lines
        })
    }

    fn place(self) -> &'static OnceLock<Arc<Lines>> {
        static PLACES: [OnceLock<Arc<Lines>>; 2] = [OnceLock::new(), OnceLock::new()];
        &PLACES[self as usize]
    }
}

/// Writes a line without ever waiting for its reader.
pub fn say(stream: Stream, line: &str) {
    stream.lines().push(format!("{line}\n").as_bytes());
}

/// Waits until everything that was said and logged is written, at most so long for each stream. A process calls this before it ends, and
/// before it is frozen.
pub fn flush(patience: Duration) {
    for stream in [Stream::Stdout, Stream::Stderr] {
        if let Some(lines) = stream.place().get() {
            lines.flush(Instant::now() + patience);
        }
    }
}

/// Text on its way to a stream.
#[derive(Default)]
pub(crate) struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Texts that found no place since the last notice.
    dropped: u64,
    is_writing: bool,
    /// Whether the stream returned an error, so that it is not worth waiting for.
    is_refused: bool,
}

impl Lines {
    /// Adds a text as a whole, or drops it as a whole.
    fn push(&self, text: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len() + text.len() > WAITING_BYTES {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(text);
        self.changed.notify_all();
    }

    fn flush(&self, until: Instant) {
        let mut state = self.state.lock();
        while (state.is_writing || !state.waiting.is_empty()) && !state.is_refused {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    fn write_for_ever(&self, stream: Stream) {
        let mut batch = Vec::new();
        loop {
            let dropped = self.take(&mut batch);
            if dropped > 0 {
                // Before anything else is added, so that it stands where the lines are missing.
                tracing::warn!(?stream, dropped, "lines were dropped, because nothing took them");
            }
            self.write(stream, &batch);
            batch.clear();
        }
    }

    /// Waits for text. Returns how many texts were dropped after it.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.is_writing = false;
        self.changed.notify_all();
        while state.waiting.is_empty() {
            self.changed.wait(&mut state);
        }
        state.is_writing = true;
        mem::swap(batch, &mut state.waiting);
        mem::take(&mut state.dropped)
    }

    /// Writes all of a batch, however long that takes: a full disk and a named pipe may take text again.
    fn write(&self, stream: Stream, mut batch: &[u8]) {
        while !batch.is_empty() {
            match stream.write(batch) {
                Ok(count) => {
                    batch = &batch[count..];
                    self.refused(false);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => thread::sleep(SHORT_PAUSE),
                Err(_) => {
                    self.refused(true);
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    fn refused(&self, is_refused: bool) {
        self.state.lock().is_refused = is_refused;
        self.changed.notify_all();
    }
}

/// A log line is one write.
impl io::Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_beyond_the_buffer_is_dropped_as_a_whole_and_counted_once() {
        let lines = Lines::default();
        let line = [b'x'; 1000];
        (0..2000).for_each(|_| lines.push(&line));
        let mut batch = Vec::new();
        let kept = WAITING_BYTES / line.len();
        assert_eq!(lines.take(&mut batch), 2000 - kept as u64);
        assert_eq!(batch.len(), kept * line.len());
        batch.clear();
        lines.push(b"again\n");
        assert_eq!((lines.take(&mut batch), batch.as_slice()), (0, &b"again\n"[..]));
    }

    #[test]
    fn a_flush_waits_only_as_long_as_it_may_and_not_for_a_stream_that_refuses() {
        let lines = Lines::default();
        lines.flush(Instant::now() + Duration::from_secs(600));
        lines.push(b"unread\n");
        lines.flush(Instant::now() + Duration::from_millis(1));
        lines.refused(true);
        lines.flush(Instant::now() + Duration::from_secs(600));
    }
}
