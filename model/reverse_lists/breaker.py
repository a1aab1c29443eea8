"""A circuit breaker: what fails is left alone for a while, so that failing costs little."""

import threading
import time
from collections.abc import Callable

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0

Clock = Callable[[], float]


class CircuitBreaker:
    """Closed, every call is admitted; a failure opens it for a pause.

    After the pause one call is admitted to probe: if it works the breaker closes, if it fails the
    pause doubles. A probe that never reports holds the others back for one more pause only.
    """

    def __init__(
        self,
        clock: Clock = time.monotonic,
        *,
        first_seconds: float = FIRST_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._clock, self._first, self._longest = clock, first_seconds, longest_seconds
        self._pause = 0.0  # 0: closed
        self._until = 0.0
        self._probing = False
        self._lock = threading.Lock()

    @property
    def closed(self) -> bool:
        """Whether every call is admitted."""
        return not self._pause

    @property
    def ready(self) -> bool:
        """Whether a call would be admitted now."""
        return self.closed or self._clock() >= self._until

    def admits(self) -> bool:
        """Whether this call may be made; it then has to report how it went."""
        with self._lock:
            if self.closed:
                return True
            if self._clock() < self._until:
                return False
            self._until, self._probing = self._clock() + self._pause, True
            return True

    def failed(self) -> bool:
        """Hold calls back; whether this is what opened the breaker."""
        with self._lock:
            opened = self.closed
            # Calls that were under way when it opened say nothing new.
            if opened or self._probing:
                self._pause = min(self._longest, max(self._first, 2 * self._pause))
                self._until = self._clock() + self._pause
            self._probing = False
            return opened

    def worked(self) -> bool:
        """Admit every call; whether this is what closed the breaker."""
        with self._lock:
            opened, self._pause, self._probing = not self.closed, 0.0, False
            return opened
