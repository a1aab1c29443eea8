"""What is noted of a request on its way, for the log, the metrics and the trace."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.core.types import Interval
    from service.jobs import Found
    from service.queries import Search


@dataclass(frozen=True, slots=True)
class Searched:
    """One search that was answered; `milliseconds` by stage."""

    search: Search
    milliseconds: Mapping[str, float]
    found: Found | None = None  # None: the answer was kept from an earlier search

    @property
    def rerank(self) -> str | None:
        """How the hits were ordered in the end; None where nothing was searched."""
        return None if self.found is None else self.found.ranking.rerank.value

    @property
    def degraded(self) -> tuple[str, ...]:
        """What there was no time for."""
        return () if self.found is None else self.found.degraded

    @property
    def batch_size(self) -> int:
        """Searches that shared the device with this one, itself included; 0: none was made."""
        return 0 if self.found is None else self.found.batch_size


@dataclass(slots=True)
class Notes:
    """One request's; every part may add to them."""

    request_id: str
    key: str | None = None  # a fingerprint
    index_version: str | None = None
    headers: dict[str, str] = field(default_factory=dict)  # for the answer, whatever it will be
    spans: dict[str, Interval] = field(default_factory=dict)  # of stages
    searched: Searched | None = None

    def search(self, searched: Searched) -> None:
        """Note a search that was answered."""
        self.searched = searched
        if searched.found is not None:
            self.index_version = searched.found.engine.version
            self.spans.update(searched.found.spans)


_CURRENT: ContextVar[Notes | None] = ContextVar("meet_notes", default=None)


def begin(notes: Notes) -> None:
    """Make these the notes of all that is done for this request from here on."""
    _CURRENT.set(notes)


def current() -> Notes:
    """The notes of the request under way; loose ones outside of any."""
    return _CURRENT.get() or Notes("")
