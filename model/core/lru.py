"""The values used last, as many as fit into a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Sized(Protocol):
    """A value that knows how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        ...


Key = TypeVar("Key", bound=Hashable)
Held = TypeVar("Held", bound=Sized)


class ByteLru(Generic[Key, Held]):
    """Values by key; those used longest ago leave first. Safe to share between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._max_bytes, self._bytes = max_bytes, 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all that is held."""
        return self._bytes

    def get(self, key: Key) -> Held | None:
        """The value of a key, which counts as used now; None where it is not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Key, value: Held) -> None:
        """Hold the value if it fits at all."""
        with self._lock:
            self._bytes -= 0 if (old := self._held.pop(key, None)) is None else old.nbytes
            if value.nbytes > self._max_bytes:
                return
            self._held[key] = value
            self._bytes += value.nbytes
            while self._bytes > self._max_bytes:
                self._bytes -= self._held.popitem(last=False)[1].nbytes
