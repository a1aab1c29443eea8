"""Which engine answers: one at a time, and another in its place when a version is activated."""

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from model.core.types import Direction
from service.engine import SearchEngine

# Gives an engine as long as it is the one served.
Lease: TypeAlias = Callable[[], SearchEngine | None]


class Outcome(StrEnum):
    """How an activation ended."""

    ACTIVATED = "activated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True)
class Activation:
    """Which version is served now, which was before, and how long that took."""

    version: str
    previous: str
    seconds: float

    @property
    def outcome(self) -> Outcome:
        """Whether that is another one."""
        return Outcome.UNCHANGED if self.version == self.previous else Outcome.ACTIVATED


class Serving:
    """The engine that requests get from now on.

    Whoever is handed an engine keeps it to the end: a request, a picture that is being read. So an
    engine that was replaced closes its files and gives its memory back with the last of them;
    nothing else may hold on to one, and what comes later takes a `lease`.
    """

    def __init__(self, engine: SearchEngine) -> None:
        """Start with an engine."""
        self.outcomes: Counter[Outcome] = Counter()
        self._engine = engine
        self._before: dict[Direction, Counter[str]] = {}

    @property
    def engine(self) -> SearchEngine:
        """The one served now."""
        return self._engine

    def replace(self, engine: SearchEngine) -> None:
        """Serve this one; its reverse-list counters go on from the old one's."""
        for direction, counts in self._engine.lookups().items():
            self._before.setdefault(direction, Counter()).update(counts)
        self._engine = engine

    def lookups(self) -> dict[Direction, dict[str, int]]:
        """How many reverse lists each layer gave, over all engines so far."""
        total = {direction: Counter(counts) for direction, counts in self._before.items()}
        for direction, counts in self._engine.lookups().items():
            total.setdefault(direction, Counter()).update(counts)
        return {direction: dict(counts) for direction, counts in total.items()}

    def lease(self, engine: SearchEngine) -> Lease:
        """Gives the engine as long as it is the one served, and holds on to nothing."""
        held = weakref.ref(engine)

        def served() -> SearchEngine | None:
            found = held()
            return found if found is self._engine else None

        return served
