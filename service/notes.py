"""What is noted of a request on its way, for the log, the metrics and the trace."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.core.types import Interval, Way
    from model.search.options import SearchOptions
    from service.jobs import Found
    from service.queries import Search


class Searched(NamedTuple):
    """What is told of one search that was answered; `milliseconds` by stage.

    Notes live as long as a request's timers do, which is longer than the request: they hold on to
    no image and to no engine.
    """

    direction: Way
    options: SearchOptions
    text: str | None  # of the query, where it is one
    milliseconds: Mapping[str, float]
    rerank: str | None = None  # how the hits were ordered in the end
    degraded: tuple[str, ...] = ()  # what there was no time for
    batch_size: int = 0  # searches that shared the device with this one; 0: none was made

    @classmethod
    def of(
        cls, search: Search, milliseconds: Mapping[str, float], found: Found | None = None
    ) -> Searched:
        """A search and what it found; None: its answer was kept from an earlier one."""
        text = getattr(search.query, "text", None)
        asked = search.direction, search.options, text, milliseconds
        if found is None:
            return cls(*asked)
        return cls(*asked, found.ranking.rerank.value, found.degraded, found.batch_size)


@dataclass(slots=True)
class Notes:
    """One request's; every part may add to them."""

    request_id: str
    key: str | None = None  # a fingerprint
    index_version: str | None = None
    headers: dict[str, str] = field(default_factory=dict)  # for the answer, whatever it will be
    spans: dict[str, Interval] = field(default_factory=dict)  # of stages
    searched: Searched | None = None

    def search(
        self, search: Search, milliseconds: Mapping[str, float], found: Found | None = None
    ) -> None:
        """Note a search that was answered, and what it found unless its answer was kept."""
        self.searched = Searched.of(search, milliseconds, found)
        if found is not None:
            self.index_version = found.engine.version
            self.spans.update(found.spans)


_CURRENT: ContextVar[Notes | None] = ContextVar("meet_notes", default=None)


def begin(notes: Notes) -> None:
    """Make these the notes of all that is done for this request from here on."""
    _CURRENT.set(notes)


def current() -> Notes:
    """The notes of the request under way; loose ones outside of any."""
    return _CURRENT.get() or Notes("")
