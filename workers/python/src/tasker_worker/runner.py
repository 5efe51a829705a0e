"""The child's side of the protocol: reads steps as lines from one pipe, and writes outcomes as lines to the other."""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Callable, NoReturn

from . import registry
from .context import StepContext
from .results import encode, failure, line, outcome_of_exception, outcome_of_value
from .version import __version__

PROTOCOL = 1

#: The runtime sends no more steps than it has places, which are at most 1,000. Threads are created on demand.
MOST_THREADS = 1000


def run() -> NoReturn:
    """Runs steps until the pipe closes. If started without pipes, it prints how to start it."""
    steps, outcomes = pipes()
    # Buffer lines, so that output appears when it is printed and not when the process ends.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
    writer = Writer(outcomes)
    handlers = registry.names()
    writer.write(line({"ready": {"protocol": PROTOCOL, "sdk": "python", "version": __version__, "handlers": handlers}}))
    pool = ThreadPoolExecutor(max_workers=MOST_THREADS, thread_name_prefix="step")
    for text in steps:
        message = json.loads(text)
        pool.submit(answer, message["id"], message["step"], writer.write)
    # The pipe is closed, so no outcome can be sent any more. Handlers may hang, so this does not wait for threads.
    os._exit(0)


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes that the parent process passed."""
    announced = os.environ.get("TASKER_PIPES")
    if not announced:
        command = f"python3 {sys.argv[0]}" if sys.argv[0].endswith(".py") else "python3 -m tasker_worker handlers.py"
        sys.exit(
            "error: this is a worker; start it with "
            f"`tasker-ctl dev --worker NAME='{command}'` or `tasker-worker --stdio -- {command}`"
        )
    try:
        read_end, write_end = (int(number) for number in announced.split(","))
        if min(read_end, write_end) < 3:
            raise ValueError("stdin, stdout and stderr carry no steps")
        # Processes that handlers start must not inherit the pipes, because they would keep them open.
        os.set_inheritable(read_end, False)
        os.set_inheritable(write_end, False)
    except (ValueError, OverflowError, OSError):
        sys.exit("error: TASKER_PIPES is wrong: expected the numbers of two open pipes, such as 3,4")
    return os.fdopen(read_end, "rb", buffering=256 * 1024), os.fdopen(write_end, "wb", buffering=0)


class Writer:
    """Writes whole lines from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        """``stream`` must be unbuffered, so that a line is sent when it is written."""
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: bytes) -> None:
        """Writes a line. Ends the process if the pipe is closed."""
        left = memoryview(text)
        with self._lock:
            try:
                while left:
                    left = left[self._stream.write(left) :]
            except OSError:
                os._exit(0)


def answer(number: int, step: dict[str, Any], write: Callable[[bytes], None]) -> None:
    """Runs a step and writes its outcome."""

    def beat() -> None:
        write(line({"id": number, "heartbeat": {}}))

    write(encode(number, outcome_of(step, beat)))


def outcome_of(step: dict[str, Any], beat: Callable[[], None] | None = None) -> dict[str, Any]:
    """Runs the handler of a step and returns its outcome, which is a failure if it raises."""
    try:
        name, method = step["handler"]["callable"], step["handler"].get("method", "call")
        handler = registry.find(name, method)
        if handler is None:
            return registry.not_found(name, method)
        context = StepContext(step, beat)
        value = handler.function(**registry.arguments(handler, context))
        if inspect.iscoroutine(value):
            # Imported here, because most workers have no async handler and start faster without it.
            import asyncio

            value = asyncio.run(value)
        return outcome_of_value(value)
    except SystemExit as error:
        # sys.exit() ends only this thread, so without an outcome the step would never be answered.
        return {"failure": failure(f"the handler called sys.exit({error.code!r})", "handler_error", True)}
    except BaseException as error:
        return outcome_of_exception(error)
