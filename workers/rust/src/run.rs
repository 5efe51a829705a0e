//! The child's side of the protocol: reads steps as lines from one pipe, and writes outcomes as lines to the other.

use std::{
    collections::HashMap,
    io,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde::{Deserialize, de::IgnoredAny};
use tasker_wire::{
    Failure, Outcome, RunStep,
    child::{Empty, PIPES, PROTOCOL, Ready, ReadyLine, ReplyLine, write_line},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::{mpsc, watch},
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
        let steps = Arc::new(Steps { worker, lines, stops: Mutex::default() });
        read_lines(reader, &steps).await?;
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

/// The steps that run in this process.
struct Steps {
    worker: Worker,
    lines: mpsc::Sender<ReplyLine>,
    /// Of each running step, where to say that it is no longer wanted.
    stops: Mutex<HashMap<u64, watch::Sender<bool>>>,
}

/// A step that this process has. The step's task owns it, so however the task ends, the process no longer has the step.
struct Held {
    steps: Arc<Steps>,
    id: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.steps.stops().remove(&self.id);
    }
}

/// A line of the runtime: a step, that a step is no longer wanted, or whether this process still has it.
#[derive(Deserialize)]
struct Incoming {
    id: u64,
    step: Option<RunStep>,
    stop: Option<IgnoredAny>,
    held: Option<IgnoredAny>,
}

/// A step that cannot be read otherwise.
#[derive(Deserialize)]
struct UnreadableStep {
    id: u64,
    #[serde(rename = "step")]
    _step: IgnoredAny,
}

async fn read_lines(mut pipe: pipe::Receiver, steps: &Arc<Steps>) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK);
    let mut searched = 0;
    loop {
        bytes.reserve(CHUNK);
        if pipe.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let mut taken = 0;
        while let Some(at) = memchr::memchr(b'\n', &bytes[searched..]) {
            receive(&bytes[taken..searched + at], steps).await;
            searched += at + 1;
            taken = searched;
        }
        bytes.drain(..taken);
        searched = bytes.len();
    }
}

/// Starts or stops a step, or says whether it runs. Ignores lines and keys that it does not know.
async fn receive(line: &[u8], steps: &Arc<Steps>) {
    match serde_json::from_slice(line) {
        Ok(Incoming { id, step: Some(step), .. }) => {
            let (sender, stop) = watch::channel(false);
            steps.stops().insert(id, sender);
            tokio::spawn(answer(Held { steps: steps.clone(), id }, step, stop));
        }
        Ok(Incoming { id, stop: Some(_), .. }) => {
            if let Some(sender) = steps.stops().get(&id) {
                sender.send_replace(true);
            }
        }
        Ok(Incoming { id, held: Some(_), .. }) => {
            let held = steps.stops().contains_key(&id);
            steps.send(ReplyLine { id, outcome: None, heartbeat: None, held: Some(held) }).await;
        }
        Ok(_) => {}
        Err(error) => match serde_json::from_slice(line) {
            Ok(UnreadableStep { id, .. }) => {
                let failure = Failure::permanent("invalid_input", format!("the step cannot be read: {error}"));
                steps.send_outcome(id, Outcome::Failure(failure)).await;
            }
            Err(_) => eprintln!("a line of the runtime was ignored: {error}"),
        },
    }
}

async fn answer(held: Held, step: RunStep, stop: watch::Receiver<bool>) {
    let Held { steps, id } = &held;
    let (beats, id) = (steps.lines.clone(), *id);
    // If the channel is full, the waiting lines show that this worker is alive.
    let heartbeat: Heartbeat =
        Arc::new(move || drop(beats.try_send(ReplyLine { id, outcome: None, heartbeat: Some(Empty {}), held: None })));
    let outcome = steps.worker.call_until(Arc::new(step), heartbeat, stop).await;
    // The step is held until then: the runtime must not read that it is not before it reads the outcome.
    steps.send_outcome(id, outcome).await;
}

impl Steps {
    fn stops(&self) -> std::sync::MutexGuard<'_, HashMap<u64, watch::Sender<bool>>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send_outcome(&self, id: u64, outcome: Outcome) {
        self.send(ReplyLine { id, outcome: Some(outcome), heartbeat: None, held: None }).await;
    }

    async fn send(&self, line: ReplyLine) {
        // The receiver exists until the process ends.
        let _ = self.lines.send(line).await;
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::Notify;

    use super::*;
    use crate::StepError;

    /// The steps of a process with a handler `wait`, what lets it go, and the process's lines, of which so many wait unread.
    fn steps(unread: usize) -> (Arc<Steps>, Arc<Notify>, mpsc::Receiver<ReplyLine>) {
        let go = Arc::new(Notify::new());
        let handler_goes = go.clone();
        let worker = Worker::new().handler("wait", move |_| {
            let go = handler_goes.clone();
            async move {
                go.notified().await;
                Ok::<_, StepError>(json!({}))
            }
        });
        let (lines, replies) = mpsc::channel(unread);
        (Arc::new(Steps { worker, lines, stops: Mutex::default() }), go, replies)
    }

    fn step() -> Value {
        let id = uuid::Uuid::from_u128(1 << 64);
        json!({
            "v": 1, "task_id": id, "step_id": id, "step_name": "a_step", "lease": 1, "attempt": 1, "max_attempts": 1, "token": "t",
            "timeout_seconds": 30, "correlation_id": id, "namespace": "default", "handler": {"callable": "wait"}, "context": {},
            "dependency_results": {},
        })
    }

    async fn receive_step(steps: &Arc<Steps>) {
        receive(json!({"id": 7, "step": step()}).to_string().as_bytes(), steps).await;
    }

    async fn is_held(steps: &Arc<Steps>, replies: &mut mpsc::Receiver<ReplyLine>) -> bool {
        receive(br#"{"id":7,"held":{}}"#, steps).await;
        let ReplyLine { id: 7, outcome: None, heartbeat: None, held: Some(held) } = replies.recv().await.unwrap() else {
            panic!("the reply says whether step 7 is held")
        };
        held
    }

    #[tokio::test]
    async fn a_step_is_held_while_its_handler_runs_and_not_before_or_after() {
        let (steps, go, mut replies) = steps(8);
        assert!(!is_held(&steps, &mut replies).await);
        receive_step(&steps).await;
        assert!(is_held(&steps, &mut replies).await);
        go.notify_one();
        assert!(replies.recv().await.unwrap().outcome.is_some());
        assert!(!is_held(&steps, &mut replies).await);
    }

    #[tokio::test]
    async fn a_step_is_held_until_its_outcome_is_sent() {
        let (steps, go, mut replies) = steps(1);
        steps.send(ReplyLine { id: 6, outcome: None, heartbeat: Some(Empty {}), held: None }).await;
        receive_step(&steps).await;
        go.notify_one();
        // This test's only thread runs the step now, whose outcome finds no room.
        tokio::task::yield_now().await;
        assert!(steps.stops().contains_key(&7));
        let lines = [replies.recv().await.unwrap(), replies.recv().await.unwrap()];
        assert_eq!(lines.map(|line| (line.id, line.outcome.is_some())), [(6, false), (7, true)]);
        assert!(!is_held(&steps, &mut replies).await);
    }

    #[tokio::test]
    async fn a_step_whose_task_is_gone_without_an_outcome_is_not_held() {
        let (steps, _go, mut replies) = steps(8);
        let (sender, stop) = watch::channel(false);
        steps.stops().insert(7, sender);
        let step = serde_json::from_str(&step().to_string()).unwrap();
        let task = tokio::spawn(answer(Held { steps: steps.clone(), id: 7 }, step, stop));
        assert!(is_held(&steps, &mut replies).await);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(!is_held(&steps, &mut replies).await);
    }
}
