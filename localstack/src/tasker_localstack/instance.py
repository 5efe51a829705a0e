"""A process of a function, with the Runtime API that it polls for events."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tasker_localstack.containers import Container
from tasker_localstack.runtime_api import RuntimeApi

# The kernel kills a child when the thread that started it ends. So one thread, which lives as long as this process,
# starts all of them.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")
# The time from the start of a function to its first poll.
INIT_SECONDS = 10
# The time for a killed container to end.
KILL_SECONDS = 5
# AWS's limit for a response.
ANSWER_BYTES = 6 * 1024 * 1024 + 100
# AWS's words for signals, where they differ from the signal's name.
SIGNALS = {signal.SIGKILL: "killed", signal.SIGABRT: "aborted", signal.SIGSEGV: "segmentation fault"}


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of an invocation."""

    payload: bytes
    is_error: bool = False


@dataclasses.dataclass
class Event:
    """An invocation for the process."""

    request_id: str
    arn: str
    trace: str
    payload: bytes
    deadline_ms: int
    answer: Future[Answer] = dataclasses.field(default_factory=Future)

    def settle(self, answer: Answer) -> None:
        # Only the first answer counts: a process may be killed while it answers.
        if not self.answer.done():
            try:
                self.answer.set_result(answer)
            except Exception:  # noqa: BLE001 - another thread was faster
                return


class Instance:
    """A process that runs until it ends, is stopped, or exceeds its timeout."""

    def __init__(
        self,
        command: list[str],
        directory: str,
        environment: dict[str, str],
        function: str,
        logs: Path,
        container: Callable[[dict[str, str]], Container] | None = None,
    ) -> None:
        """If `container` is given, it creates a container for the environment, which runs instead of the command."""
        logs.mkdir(parents=True, exist_ok=True)
        self._function = function
        self._logs = logs
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._current: Event | None = None
        self._init_error: Answer | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._api = RuntimeApi(self)
        self._began = time.perf_counter()
        environment = {**environment, "AWS_LAMBDA_RUNTIME_API": self._api.address}
        self._container: Container | None = None
        try:
            if container is not None:
                self._container = container(environment)
                command, environment = self._container.command, {"PATH": os.environ["PATH"]}
            with (logs / f"{function}.log").open("ab") as log:
                self._process = _STARTER.submit(_start, command, directory, environment, log.fileno()).result()
        except BaseException:
            # Nothing else cleans up, and a function that cannot start is attempted repeatedly.
            self._api.close()
            if self._container is not None:
                self._container.remove()
            raise
        self._watcher = threading.Thread(target=self._watch, name=f"watch-{function}", daemon=True)
        self._watcher.start()

    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, request_id: str, arn: str, trace: str, event: bytes, timeout: int) -> Answer:
        """Sends an event to the process and waits for its answer."""
        # The init phase does not count toward the timeout.
        self._await_first_poll()
        deadline_ms = int((time.time() + timeout) * 1000)
        event = Event(request_id, arn, trace, event, deadline_ms)
        with self._lock:
            self._current = event
            if not self.alive():
                event.settle(self._died(event))
        self._events.put(event)
        try:
            return event.answer.result(timeout=timeout)
        except TimeoutError:
            what = f"Task timed out after {timeout}.00 seconds"
            event.settle(_error("Sandbox.Timedout", f"RequestId: {request_id} Error: {what}"))
            self._log_line(what)
            self.end()
            return event.answer.result()
        finally:
            with self._lock:
                self._current = None

    def end(self) -> None:
        """Kills the process and everything that it started."""
        if self._container is not None and self.alive() and self._container.kill():
            # Its runc waits for the container and ends too.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_SECONDS)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # The watcher ends once a container is removed too.
        self._watcher.join()

    # Called by the Runtime API.

    def next_event(self) -> Event | None:
        """Waits for an event. None once the process has ended."""
        if not self._ready.is_set():
            self._note_start()
            self._ready.set()
        return self._events.get()

    def settle(self, request_id: str, payload: bytes, is_error: bool) -> bool:
        with self._lock:
            event = self._current
        if event is None or event.request_id != request_id:
            return False
        if len(payload) > ANSWER_BYTES:
            size = f"Response payload size ({len(payload)} bytes) exceeded maximum allowed payload size"
            event.settle(_error("Function.ResponseSizeTooLarge", f"{size} ({ANSWER_BYTES} bytes)."))
            return False
        event.settle(Answer(payload, is_error))
        return True

    def init_failed(self, payload: bytes) -> None:
        """The process reports why it cannot start. That answers the invocation that it was started for."""
        self._log_line(f"init failed: {payload.decode(errors='replace')}")
        with self._lock:
            self._init_error = Answer(payload, is_error=True)

    # Internal.

    def _await_first_poll(self) -> None:
        deadline = time.monotonic() + INIT_SECONDS
        while not self._ready.wait(0.02):
            if not self.alive() or time.monotonic() > deadline:
                return

    def _watch(self) -> None:
        self._process.wait()
        # Processes that the function started do not outlive it.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        if self._container is not None:
            self._container.remove()
        with self._lock:
            event = self._current
        if event is not None:
            event.settle(self._died(event))
        self._events.put(None)
        self._api.close()

    def _died(self, event: Event) -> Answer:
        if self._init_error is not None:
            return self._init_error
        code = self._process.returncode
        if self._container is not None and code > 128:
            code = 128 - code
        how = f"exit status {code}"
        if code < 0:
            number = signal.Signals(-code)
            how = f"signal: {SIGNALS.get(number, number.name.removeprefix('SIG').lower())}"
        return _error("Runtime.ExitError", f"RequestId: {event.request_id} Error: Runtime exited with error: {how}")

    def _log_line(self, text: str) -> None:
        with (self._logs / f"{self._function}.log").open("a", encoding="utf-8") as log:
            log.write(text + "\n")

    def _note_start(self) -> None:
        ms = (time.perf_counter() - self._began) * 1000
        pid = self._process.pid if self._container is None else self._container.pid()
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
            # Process 1 of a container only waits for orphans: the program is its child.
            kib = _rss_kib(pid) if self._container is None else _rss_kib(pid) + sum(map(_rss_kib, children))
        except OSError:
            return
        line = json.dumps({"function": self._function, "ms": round(ms, 1), "rss_kib": kib})
        with (self._logs / "cold-starts.jsonl").open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _rss_kib(pid: int | str | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def _error(kind: str, message: str) -> Answer:
    return Answer(json.dumps({"errorType": kind, "errorMessage": message}).encode(), is_error=True)


def _start(command: list[str], directory: str, environment: dict[str, str], log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # The kernel kills it when this process ends for any reason.
        ["setpriv", "--pdeathsig", "KILL", *command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
