"""The child's side of the protocol: reads steps as lines from one pipe, and writes outcomes as lines to the other."""

from __future__ import annotations

import contextvars
import inspect
import json
import os
import re
import sys
import threading
from functools import partial
from typing import Any, BinaryIO, Callable, NoReturn
from weakref import WeakValueDictionary

from . import registry
from .cancellation import Stop
from .context import StepContext
from .pool import Pool
from .results import LAST_WORDS, encode, failure, line, outcome_of_exception, outcome_of_value
from .version import __version__
from .words import name_of, number_of, text_of

PROTOCOL = 1

#: Reads lines. ``json.loads`` would make a reader for every line.
STEPS = json.JSONDecoder(parse_float=number_of)

#: The number of a step, in a line that cannot be read.
NUMBER = re.compile(rb'\s*\{\s*"id"\s*:\s*([0-9]{1,19})\s*,\s*"step"')


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
    worker = Worker(writer.write)
    for text in steps:
        worker.receive(text)
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


class Worker:
    """The steps that run in this process."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Every step starts in a copy of the context of this call."""
        self._write = write
        self._context = contextvars.copy_context()
        #: By the number of a step. Only the call that runs a step keeps its ``Stop``: a lost step is not here.
        self._stops: WeakValueDictionary[int, Stop] = WeakValueDictionary()
        self._pool = Pool()

    def receive(self, text: bytes) -> None:
        """Starts or stops a step, or says whether it runs. Ignores lines and keys that it does not know."""
        try:
            message = STEPS.decode(text.decode())
            number = message["id"] if isinstance(message, dict) else None
        except (ValueError, KeyError, RecursionError) as error:
            return self._refuse(text, error)
        if not isinstance(number, int):
            return
        if isinstance(message.get("step"), dict):
            self._start(number, message["step"])
        elif "stop" in message:
            stop = self._stops.get(number)
            if stop is not None:
                stop.request()
        elif "held" in message:
            self._write(line({"id": number, "held": number in self._stops}))

    def _start(self, number: int, step: dict[str, Any]) -> None:
        stop = self._stops[number] = Stop()
        try:
            self._pool.submit(partial(self._run, number, step, stop))
        except RuntimeError as error:
            # There is no other thread to be had, but one that is free later may still find the step.
            if stop.claim():
                self._end(number, encode(number, outcome_of_exception(error)))

    def _run(self, number: int, step: dict[str, Any], stop: Stop) -> None:
        if stop.claim():
            self._end(number, self._context.copy().run(self._answer, number, step, stop))

    def _answer(self, number: int, step: dict[str, Any], stop: Stop) -> bytes:
        def beat() -> None:
            self._write(line({"id": number, "heartbeat": {}}))

        try:
            own_decimal_context()
            return encode(number, outcome_of(step, beat, stop))
        except BaseException:
            # Only without memory, or if even the code that describes errors is wrong.
            return LAST_WORDS % number

    def _end(self, number: int, answer: bytes) -> None:
        # In this order: the runtime must not read that the step is not held before it reads the answer.
        self._write(answer)
        del self._stops[number]

    def _refuse(self, text: bytes, error: Exception) -> None:
        """Answers a step that cannot be read, such as one with a number of more digits than Python takes."""
        number = NUMBER.match(text)
        if number is None:
            print(f"a line of the runtime was ignored: {text_of(error, 200)}", file=sys.stderr)
            return
        problem = f"the step cannot be read: {text_of(error)}"
        self._write(encode(int(number[1]), {"failure": failure(problem, "invalid_input", False)}))


def own_decimal_context() -> None:
    """Gives the step a decimal context of its own: a copy of the variables still names the object of all steps."""
    decimal = sys.modules.get("_decimal")
    if decimal is not None:
        decimal.setcontext(decimal.getcontext().copy())


def outcome_of(
    step: dict[str, Any], beat: Callable[[], None] | None = None, stop: Stop | None = None
) -> dict[str, Any]:
    """Runs the handler of a step and returns its outcome, which is a failure if it raises."""
    stop = stop or Stop()
    try:
        if stop.is_requested():
            return {"released": {}}
        name, method = step["handler"]["callable"], step["handler"].get("method", "call")
        handler = registry.find(name, method)
        if handler is None:
            return registry.not_found(name, method)
        context = StepContext(step, beat, stop.is_requested)
        value = handler.function(**registry.arguments(handler, context))
        if inspect.isawaitable(value):
            # Imported here, because most workers have no async handler and start faster without it.
            from .event_loop import result_of

            value = result_of(value, stop)
        return outcome_of_value(handler.convert(value) if handler.convert else value)
    except BaseException as error:
        if stop.is_requested() and name_of(type(error)) == "CancelledError":
            return {"released": {}}
        return outcome_of_exception(error)
