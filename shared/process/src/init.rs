//! The duty of process 1. In a container each process whose parent has ended becomes a child of process 1, which must wait for it. A
//! program that waited for any child would take the exit statuses of its own children from whoever waits for them. So process 1 does
//! nothing else: it runs the program as its child.

use std::{env, io, os::unix::process::CommandExt, process::Command};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use crate::{Shutdown, Stream, say};

/// If this is process 1: runs this program again as a child, passes signals on to it, waits for all orphans, and returns the child's exit
/// code, or 128 plus the signal that ended it. Otherwise, and if no child can be started, `None`, and the caller is the program. A `main`
/// calls this before anything else.
pub fn as_init() -> Option<u8> {
    if std::process::id() != 1 {
        return None;
    }
    let ended = Builder::new_current_thread().enable_all().build().and_then(|runtime| runtime.block_on(run_program()));
    let warn = |error: &io::Error| {
        say(Stream::Stderr, &format!("warning: ended processes will stay, because process 1 cannot start a child: {error}"));
    };
    ended.inspect_err(warn).ok()
}

async fn run_program() -> io::Result<u8> {
    // Before the program starts, so that no signal is missed.
    let (mut shutdown, mut child_ended) = (Shutdown::listen()?, signal(SignalKind::child())?);
    let mut command = Command::new(env::current_exe()?);
    let mut words = env::args_os();
    command.arg0(words.next().unwrap_or_default()).args(words);
    // A group of its own, so that Ctrl-C at a container's terminal arrives once: through us. It must not read from that terminal.
    let program = command.process_group(0).spawn()?;
    let pid = Pid::from_raw(program.id().cast_signed());
    loop {
        if let Some(code) = reap(pid) {
            return Ok(code);
        }
        tokio::select! {
            _ = child_ended.recv() => {}
            signal = shutdown.signal() => {
                // It fails only if the program has just ended.
                let _ = kill(pid, Signal::try_from(signal.as_raw_value()).ok());
            }
        }
    }
}

/// Waits for all processes that have ended. Returns the exit code of the program if it is one of them.
fn reap(program: Pid) -> Option<u8> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Some(code as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => return Some(128 + signal as u8),
            Ok(WaitStatus::StillAlive) => return None,
            // The program ended by a signal without a name.
            Err(Errno::ECHILD) => return Some(1),
            Ok(_) | Err(_) => {}
        }
    }
}
