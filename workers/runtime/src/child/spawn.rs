//! Starts a child process that cannot outlive this one: it has its own process group, which is killed as a whole, and on Linux a death
//! signal from the kernel. Its pipes are the file descriptors 3 and 4.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    process::{ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tasker_wire::child::PIPES;
use tokio::{
    net::unix::pipe,
    process::{Child, ChildStderr, ChildStdout},
    runtime::Handle,
    sync::oneshot,
};

use super::Command;

/// The child reads steps here.
const IN: RawFd = 3;
/// The child writes outcomes here.
const OUT: RawFd = 4;
/// Environment variables that a child does not inherit: workers never see PostgreSQL, and only this process handles queues and
/// invocations. A command may set them explicitly.
const NOT_INHERITED: [&str; 9] = [
    "DATABASE_URL",
    "TASKER_DATABASE_URL",
    "TASKER_TEST_DATABASE_URL",
    "TASKER_QUEUES",
    "TASKER_POOL",
    "TASKER_TIMEOUT_SECONDS",
    "TASKER_MAX_CONCURRENT_HANDLERS",
    "TASKER_READY_TIMEOUT_SECONDS",
    "AWS_LAMBDA_RUNTIME_API",
];

/// A child process. Dropping it kills the child and everything in its process group.
pub(super) struct Process {
    child: Child,
    pub pid: u32,
}

impl Process {
    /// Waits for the end. Cancel-safe; may be called again.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub async fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        tokio::time::timeout(time, self.child.wait()).await.ok()?.ok()
    }

    /// Its stdout and stderr. May be called once.
    pub fn take_output(&mut self) -> (ChildStdout, ChildStderr) {
        let Child { stdout, stderr, .. } = &mut self.child;
        (stdout.take().expect("stdout is piped"), stderr.take().expect("stderr is piped"))
    }

    /// The CPU time of the process group. Zero where there is no `/proc`.
    pub fn cpu_time(&self) -> Duration {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Duration::ZERO };
        let stats = processes.flatten().filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
        stats.filter_map(|stat| cpu_time_in(&stat, self.pid)).sum()
    }

    /// Kills the process group.
    pub fn kill(&self) {
        // The child may have ended already. Its pid is not reused in so short a time.
        let _ = killpg(Pid::from_raw(self.pid as i32), Signal::SIGKILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The CPU time in a `/proc/PID/stat`, with that of ended children, if the process is in the group.
fn cpu_time_in(stat: &str, group: u32) -> Option<Duration> {
    // The name of the program may contain spaces and parentheses. The group is the third field after it, the times are from the 12th.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let hundredths = (11..15).map(number).sum::<Option<u64>>()?;
    (number(2)? == u64::from(group)).then(|| Duration::from_millis(10 * hundredths))
}

/// A running child, with our ends of its pipes: the one that it reads from, and the one that it writes to.
pub(super) async fn spawn(command: &Command) -> io::Result<(Process, pipe::Sender, pipe::Receiver)> {
    let (child_in, to_child) = std::io::pipe()?;
    let (from_child, child_out) = std::io::pipe()?;
    let (child_in, child_out) = (out_of_the_way(child_in.into())?, out_of_the_way(child_out.into())?);
    let child = on_spawner_thread(prepared(command, &child_in, &child_out)).await;
    // Close our copies of the child's ends; otherwise its death would not close the pipes.
    drop((child_in, child_out));
    let child = child?;
    let pid = child.id().expect("a child that was not waited for has a pid");
    let process = Process { child, pid };
    Ok((process, pipe::Sender::from_owned_fd(to_child.into())?, pipe::Receiver::from_owned_fd(from_child.into())?))
}

/// A copy above the child's descriptors 3 and 4, so that moving one pipe there cannot close the other.
fn out_of_the_way(fd: OwnedFd) -> io::Result<OwnedFd> {
    let raw = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(OUT + 1))?;
    // SAFETY: fcntl has just created this descriptor, and nothing else owns it.
    #[allow(unsafe_code)]
    let copy = unsafe { OwnedFd::from_raw_fd(raw) };
    Ok(copy)
}

fn prepared(command: &Command, child_in: &OwnedFd, child_out: &OwnedFd) -> tokio::process::Command {
    let mut prepared = tokio::process::Command::new(&command.program);
    NOT_INHERITED.iter().for_each(|name| {
        prepared.env_remove(name);
    });
    prepared
        .args(&command.arguments)
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .env(PIPES, format!("{IN},{OUT}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let (child_in, child_out) = (child_in.as_raw_fd(), child_out.as_raw_fd());
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure only makes system calls; it neither allocates nor takes a lock.
    #[allow(unsafe_code)]
    unsafe {
        prepared.pre_exec(move || before_exec(child_in, child_out, parent));
    }
    prepared
}

/// Runs in the child between fork and exec.
fn before_exec(child_in: RawFd, child_out: RawFd, parent: u32) -> io::Result<()> {
    // SAFETY: plain system calls on numbers. dup2 clears close-on-exec on the copies, and replaces descriptors only in the child.
    #[allow(unsafe_code)]
    unsafe {
        if libc::dup2(child_in, IN) < 0 || libc::dup2(child_out, OUT) < 0 {
            return Err(io::Error::last_os_error());
        }
        #[cfg(target_os = "linux")]
        {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the signal was set up.
            if libc::getppid() != parent as i32 {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // The child inherits no other descriptor. Old kernels refuse this call, but all our descriptors are close-on-exec anyway.
            libc::syscall(libc::SYS_close_range, OUT + 1, libc::c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = parent;
    }
    Ok(())
}

/// Forks on a thread that lives as long as this process: the death signal fires when the *thread* that forked ends, and a runtime's
/// threads may end earlier.
async fn on_spawner_thread(mut command: tokio::process::Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Box<dyn FnOnce() + Send>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (spawner, spawns) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let run = move || {
            occupy_low_descriptors();
            spawns.into_iter().for_each(|spawn| spawn());
        };
        std::thread::Builder::new().name("spawner".into()).spawn(run).expect("a thread can be started");
        spawner
    });
    let (reply, answer) = oneshot::channel();
    let runtime = Handle::current();
    let spawn = move || {
        let _context = runtime.enter();
        // If nothing waits for the reply, the child is dropped, which kills it.
        let _ = reply.send(command.spawn());
    };
    spawner.send(Box::new(spawn)).expect("the spawner thread never ends");
    answer.await.expect("the spawner thread answers every request")
}

/// Keeps the descriptors up to [`OUT`] in use. The standard library reports a failed exec through a pipe. If that pipe had the number
/// 3 or 4, the child's pipes would replace it and the failure would be lost.
fn occupy_low_descriptors() {
    while let Ok(file) = File::open("/dev/null") {
        if file.as_raw_fd() > OUT {
            return;
        }
        std::mem::forget(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_process_counts_if_it_is_in_the_group() {
        let stat = "42 (a (strange) name) S 1 40 40 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0";
        assert_eq!(cpu_time_in(stat, 40), Some(Duration::from_millis(1240)));
        assert_eq!(cpu_time_in(stat, 41), None);
        assert_eq!(cpu_time_in("nonsense", 40), None);
    }
}
