//! The child's side of the protocol: reads steps as lines from one pipe, and writes outcomes as lines to the other.

use std::{
    io,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process::ExitCode,
    sync::Arc,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use tasker_wire::child::{Beat, PIPES, PROTOCOL, Ready, ReadyLine, ReplyLine, StepLine, write_line};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::mpsc,
};

use crate::{Heartbeat, Worker};

/// Bytes of one read.
const CHUNK: usize = 64 * 1024;

/// Bytes after which a write stops collecting waiting outcomes.
const WRITE: usize = 256 * 1024;

pub(crate) fn run(worker: Worker) -> ExitCode {
    match pipes().and_then(|pipes| serve(worker, pipes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

struct Pipes {
    steps: OwnedFd,
    outcomes: OwnedFd,
}

fn pipes() -> io::Result<Pipes> {
    let Some(announced) = std::env::var_os(PIPES).filter(|value| !value.is_empty()) else {
        let program = std::env::args().next().unwrap_or_else(|| "this program".into());
        return Err(io::Error::other(format!(
            "this is a worker; start it with `tasker-ctl dev --worker NAME={program}` or `tasker-worker --stdio -- {program}`"
        )));
    };
    let numbers = announced.to_str().and_then(|text| text.split_once(','));
    let (steps, outcomes) = numbers.ok_or_else(wrong)?;
    Ok(Pipes { steps: own(steps)?, outcomes: own(outcomes)? })
}

/// Takes ownership of an inherited descriptor.
fn own(number: &str) -> io::Result<OwnedFd> {
    let number: RawFd = number.parse().ok().filter(|&number| number > 2).ok_or_else(wrong)?;
    // SAFETY: the parent process declares these descriptors to be our pipes; nothing else uses them. The fcntl call fails if one is
    // not open. It also closes them in processes that handlers start.
    #[allow(unsafe_code)]
    unsafe {
        fcntl(BorrowedFd::borrow_raw(number), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|_| wrong())?;
        Ok(OwnedFd::from_raw_fd(number))
    }
}

fn wrong() -> io::Error {
    io::Error::other(format!("{PIPES} is wrong: expected the numbers of two open pipes, such as 3,4"))
}

fn serve(worker: Worker, pipes: Pipes) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let reader = pipe::Receiver::from_owned_fd(pipes.steps)?;
        let writer = pipe::Sender::from_owned_fd(pipes.outcomes)?;
        // Room for an outcome of every step: the runtime sends no more steps than it has places, which are at most 1,000.
        let (lines, waiting) = mpsc::channel(1024);
        let ready = ready_line(&worker);
        let writing = tokio::spawn(write_lines(writer, ready, waiting));
        read_steps(reader, Arc::new(worker), lines).await?;
        // The pipe is closed, so no outcome can be sent any more. Handlers may hang, so the process exits immediately.
        writing.abort();
        std::process::exit(0);
    })
}

fn ready_line(worker: &Worker) -> Vec<u8> {
    let handlers = worker.names().map(str::to_owned).collect();
    let ready = Ready { protocol: PROTOCOL, sdk: "rust".into(), version: env!("CARGO_PKG_VERSION").into(), handlers };
    let mut line = Vec::new();
    write_line(&ReadyLine { ready }, &mut line);
    line
}

async fn read_steps(mut pipe: pipe::Receiver, worker: Arc<Worker>, lines: mpsc::Sender<ReplyLine>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK);
    let mut searched = 0;
    loop {
        bytes.reserve(CHUNK);
        if pipe.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let mut taken = 0;
        while let Some(at) = memchr::memchr(b'\n', &bytes[searched..]) {
            let incoming: StepLine = serde_json::from_slice(&bytes[taken..searched + at])?;
            tokio::spawn(answer(worker.clone(), incoming, lines.clone()));
            searched += at + 1;
            taken = searched;
        }
        bytes.drain(..taken);
        searched = bytes.len();
    }
}

async fn answer(worker: Arc<Worker>, StepLine { id, step }: StepLine, lines: mpsc::Sender<ReplyLine>) {
    let beats = lines.clone();
    // If the channel is full, the waiting lines show that this worker is alive.
    let heartbeat: Heartbeat = Arc::new(move || drop(beats.try_send(ReplyLine { id, outcome: None, heartbeat: Some(Beat {}) })));
    let outcome = worker.call(Arc::new(step), heartbeat).await;
    // The receiver exists until the process ends.
    let _ = lines.send(ReplyLine { id, outcome: Some(outcome), heartbeat: None }).await;
}

/// Writes waiting lines, many in one write.
async fn write_lines(mut pipe: pipe::Sender, ready: Vec<u8>, mut lines: mpsc::Receiver<ReplyLine>) {
    let mut bytes = ready;
    loop {
        if pipe.write_all(&bytes).await.is_err() {
            // The runtime has ended, so outcomes cannot be sent any more.
            std::process::exit(0);
        }
        bytes.clear();
        bytes.shrink_to(WRITE);
        let Some(first) = lines.recv().await else { return };
        write_line(&first, &mut bytes);
        while bytes.len() < WRITE {
            let Ok(next) = lines.try_recv() else { break };
            write_line(&next, &mut bytes);
        }
    }
}
