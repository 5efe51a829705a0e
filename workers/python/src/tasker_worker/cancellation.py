"""Whether a step is still wanted."""

from __future__ import annotations

import threading
from typing import Callable


class Stop:
    """The runtime's request to stop a step, and the right to answer the step, which is taken once."""

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self._lock = threading.Lock()
        self._requested = False
        self._claimed = False
        self._cancel: Callable[[], object] | None = None

    def is_requested(self) -> bool:
        """Whether the step is no longer wanted."""
        return self._requested

    def request(self) -> None:
        """Says that the step is no longer wanted, and cancels it if it can be cancelled. Further calls do nothing."""
        with self._lock:
            cancel = None if self._requested else self._cancel
            self._requested = True
        if cancel is not None:
            cancel()

    def cancels_by(self, cancel: Callable[[], object]) -> None:
        """How the step is cancelled: at once if that is already requested."""
        with self._lock:
            self._cancel = cancel
            requested = self._requested
        if requested:
            cancel()

    def claim(self) -> bool:
        """Whether the caller is the first, who answers the step."""
        with self._lock:
            claimed, self._claimed = self._claimed, True
        return not claimed
