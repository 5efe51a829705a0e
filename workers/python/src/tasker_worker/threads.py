"""The threads that async handlers start by ``asyncio.to_thread`` and ``loop.run_in_executor(None, …)``."""

from __future__ import annotations

import contextlib
import contextvars
import socket
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Callable

#: The runtime sends no more steps than it has places, which are at most 1,000. Threads are created on demand.
MOST_THREADS = 1000

#: What asyncio itself runs in threads: it changes nothing, and may take longer than a stopped step has.
LOOKUPS = (socket.getaddrinfo, socket.getnameinfo)

_own: contextvars.ContextVar[set[Future[Any]] | None] = contextvars.ContextVar("threads of the step", default=None)


class Threads(ThreadPoolExecutor):
    """Threads that know which step started them."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a function in a thread. Called in the task of the step, whose variables the thread itself may lack."""
        started = super().submit(function, *args, **kwargs)
        own = _own.get()
        if own is not None and function not in LOOKUPS:
            own.add(started)
            started.add_done_callback(own.discard)
        return started


def context_of_step(own: set[Future[Any]]) -> contextvars.Context:
    """A copy of this thread's context, in which ``own`` holds the threads that run."""
    context = contextvars.copy_context()
    context.run(_own.set, own)
    return context


def wait_for(own: set[Future[Any]]) -> None:
    """Waits until none of the threads runs."""
    while own:
        # The set changes while it is copied.
        with contextlib.suppress(RuntimeError):
            wait(list(own))
