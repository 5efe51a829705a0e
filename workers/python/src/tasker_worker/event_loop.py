"""The one event loop of all async handlers, so that a client, lock or semaphore of a module works in all of them.

It runs in a thread of its own, and nothing that a handler does ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import traceback
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

from .cancellation import Stop
from .threads import MOST_THREADS, Threads, context_of_step, wait_for

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def result_of(awaitable: Awaitable[Any], stop: Stop) -> Any:
    """Waits in this thread until the loop has run an awaitable, in a copy of this thread's context.

    Cancelling a task does not end the threads that it started. So a stopped step also waits for these: otherwise its
    next attempt would run beside them. If they do not end, the step is not answered, and the runtime ends the process.
    """
    done: Future[Any] = Future()
    own: set[Future[Any]] = set()
    loop = running_loop()
    loop.call_soon_threadsafe(start, loop, awaitable, stop, done, context=context_of_step(own))
    try:
        return done.result()
    finally:
        if stop.is_requested():
            wait_for(own)


def start(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[Any], stop: Stop, done: Future[Any]) -> None:
    """Starts an awaitable as a task. Called by the loop."""
    try:
        task = loop.create_task(finish(awaitable, done))
    except BaseException as error:
        done.set_exception(error)
        return

    def cancel() -> None:
        # By way of the loop, so that the task has begun before it is cancelled and can always say how it ended.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(task.cancel)

    stop.cancels_by(cancel)


async def finish(awaitable: Awaitable[Any], done: Future[Any]) -> None:
    """Hands over the result of an awaitable, or whatever it raised: an exit that left the task would end the loop."""
    try:
        done.set_result(await awaitable)
    except BaseException as error:
        done.set_exception(error)


def running_loop() -> asyncio.AbstractEventLoop:
    """The loop, which the first async handler starts."""
    global _loop
    with _lock:
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            # Python's own default has as few threads as the machine has processors, and a few more.
            _loop.set_default_executor(Threads(MOST_THREADS, thread_name_prefix="asyncio"))
            threading.Thread(target=serve, args=(_loop,), name="async handlers", daemon=True).start()
        return _loop


def serve(loop: asyncio.AbstractEventLoop) -> None:
    """Runs the loop for as long as the process lives."""
    asyncio.set_event_loop(loop)
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException:
            # A task that a handler left behind called sys.exit(), which asyncio passes on.
            traceback.print_exc(file=sys.stderr)
