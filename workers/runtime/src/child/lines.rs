//! Reads a child's pipe line by line. Keeps no more of a line in memory than the limit; of a longer one only its outline.

use std::{io, os::fd::AsFd};

use tasker_wire::limits;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{outline::Outline, protocol::id_at_start};

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;
/// A larger buffer is freed once it is empty.
const KEPT: usize = 1024 * 1024;

pub(super) struct Lines {
    pipe: pipe::Receiver,
    bytes: Vec<u8>,
    /// Bytes at the front that were returned as lines.
    taken: usize,
    /// Bytes at the front that contain no further line end, so that a long line is searched only once.
    searched: usize,
    /// The current line, if it is above the limit.
    long: Option<Outline>,
}

pub(super) enum Next<'a> {
    Line(&'a [u8]),
    /// The line is not complete yet.
    Partial,
    /// The line of a step was above the limit; this is its outline.
    Outline(Vec<u8>),
    /// The line is above the limit, and of no step or endless; this is its beginning.
    TooLong(&'a [u8]),
}

impl Lines {
    pub fn new(pipe: pipe::Receiver) -> Self {
        Self { pipe, bytes: Vec::with_capacity(CHUNK), taken: 0, searched: 0, long: None }
    }

    /// Waits for more bytes. `Ok(0)` if the child has closed the pipe. Cancel-safe.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.make_room();
        self.pipe.read_buf(&mut self.bytes).await
    }

    /// Reads what is in the pipe, without waiting. It asks the kernel: tokio only knows of bytes that its driver was told about, and
    /// after a pause its timers may fire before the driver is told of anything.
    pub fn fill_now(&mut self) {
        self.make_room();
        let mut chunk = vec![0; CHUNK];
        while self.bytes.len() <= limits::WORKER_LINE_BYTES + CHUNK {
            let Ok(count @ 1..) = nix::unistd::read(self.pipe.as_fd(), &mut chunk) else { return };
            self.bytes.extend_from_slice(&chunk[..count]);
        }
    }

    /// The next line, without its end.
    pub fn next(&mut self) -> Next<'_> {
        let end = memchr::memchr(b'\n', &self.bytes[self.searched..]).map(|at| self.searched + at);
        let line = self.taken..end.unwrap_or(self.bytes.len());
        self.searched = line.end;
        if let Some(end) = end {
            (self.taken, self.searched) = (end + 1, end + 1);
        }
        if self.long.is_none() && line.len() > limits::WORKER_LINE_BYTES {
            if id_at_start(&self.bytes[line.clone()]).is_none() {
                return Next::TooLong(&self.bytes[line]);
            }
            self.long = Some(Outline::default());
        }
        let Some(mut long) = self.long.take() else {
            return if end.is_some() { Next::Line(&self.bytes[line]) } else { Next::Partial };
        };
        long.read(&self.bytes[line]);
        if end.is_some() {
            return Next::Outline(long.into_text());
        }
        self.taken = self.searched;
        let long = self.long.insert(long);
        if long.is_endless() { Next::TooLong(long.text()) } else { Next::Partial }
    }

    fn make_room(&mut self) {
        if self.taken > 0 {
            self.bytes.drain(..self.taken);
            self.searched -= self.taken;
            self.taken = 0;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.reserve(CHUNK);
    }
}
