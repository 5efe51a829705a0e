"""The threads that run steps."""

from __future__ import annotations

import contextlib
import threading
from queue import SimpleQueue
from typing import Callable

from .threads import MOST_THREADS


class Pool:
    """Runs calls in threads that are started on demand.

    ``concurrent.futures`` makes a future, its condition and their locks for every call; here nobody reads the result.
    """

    def __init__(self, most: int = MOST_THREADS) -> None:
        """Starts no thread yet. At most ``most`` of them ever run."""
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        #: Threads without a call; below zero, calls without a thread.
        self._idle = 0
        self._threads = 0
        self._most = most

    def submit(self, call: Callable[[], None]) -> None:
        """Runs a call as soon as a thread is free. Raises ``RuntimeError`` if one is needed and cannot be started; the
        call may still run then, in one that is free later."""
        self._calls.put(call)
        with self._lock:
            self._idle -= 1
            if self._idle >= 0 or self._threads >= self._most:
                return
            threading.Thread(target=self._work, name=f"step_{self._threads}", daemon=True).start()
            self._threads += 1
            self._idle += 1

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            # What a step needs to know of an error, it answers itself.
            with contextlib.suppress(BaseException):
                call()
            # Otherwise an idle thread would keep the last step in memory.
            del call
            with self._lock:
                self._idle += 1
