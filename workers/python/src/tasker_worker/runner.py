"""The child's side of the worker protocol: steps come as lines on one pipe, outcomes go as lines to the other."""

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

#: The runtime hands over no more steps than it has places, and a thousand at most; threads are made as they are needed.
MOST_THREADS = 1000


def run() -> NoReturn:
    """Serves steps until the pipe closes. Started by hand, it says how to start it."""
    steps, outcomes = pipes()
    # Lines, so that they are seen when they are printed and not when the process ends.
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
    # The pipe is closed: nobody wants what still runs, and a handler may hang. So this does not wait for threads.
    os._exit(0)


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two ends that whoever started this process announced."""
    announced = os.environ.get("TASKER_PIPES")
    if announced is None:
        command = f"python3 {sys.argv[0]}" if sys.argv[0].endswith(".py") else "python3 -m tasker_worker handlers.py"
        sys.exit(
            "error: this is a worker; it is started by "
            f"`tasker-ctl dev --worker NAME='{command}'` or `tasker-worker --stdio -- {command}`"
        )
    try:
        read_end, write_end = (int(number) for number in announced.split(","))
        # Not for the processes that handlers start: they would keep the pipes open.
        os.set_inheritable(read_end, False)
        os.set_inheritable(write_end, False)
    except (ValueError, OSError) as error:
        sys.exit(f"error: TASKER_PIPES must name two open file descriptors such as 3,4, not {announced!r}: {error}")
    return os.fdopen(read_end, "rb", buffering=256 * 1024), os.fdopen(write_end, "wb", buffering=0)


class Writer:
    """Writes whole lines, whichever thread they come from."""

    def __init__(self, stream: BinaryIO) -> None:
        """``stream`` is unbuffered, so that a written line is gone."""
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, text: bytes) -> None:
        """Writes a line. When nobody reads any more, the process ends."""
        left = memoryview(text)
        with self._lock:
            try:
                while left:
                    left = left[self._stream.write(left) :]
            except OSError:
                os._exit(0)


def answer(number: int, step: dict[str, Any], write: Callable[[bytes], None]) -> None:
    """Runs one step and writes what came of it."""

    def beat() -> None:
        write(line({"id": number, "heartbeat": {}}))

    write(encode(number, outcome_of(step, beat)))


def outcome_of(step: dict[str, Any], beat: Callable[[], None] | None = None) -> dict[str, Any]:
    """Runs the handler of a step and says what came of it, whatever that is."""
    try:
        name, method = step["handler"]["callable"], step["handler"].get("method", "call")
        handler = registry.find(name, method)
        if handler is None:
            return registry.not_found(name, method)
        context = StepContext(step, beat)
        value = handler.function(**registry.arguments(handler, context))
        if inspect.iscoroutine(value):
            # Here, because most workers have no async handler and start faster without it.
            import asyncio

            value = asyncio.run(value)
        return outcome_of_value(value)
    except SystemExit as error:
        # sys.exit() in a thread ends only the thread; the step would never be answered.
        return {"failure": failure(f"the handler called sys.exit({error.code!r})", "handler_error", True)}
    except BaseException as error:
        return outcome_of_exception(error)
