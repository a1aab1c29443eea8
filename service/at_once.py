"""Which searches are answered where they come in, where nothing else is to be done.

To wake a thread up and be woken up by it takes a tenth of a search in a small gallery, and gives
nothing to a search that is alone. None is among them that may have to wait, for an encoder, for
Redis or for a computation, nor one whose like has taken long: nobody else is heard meanwhile.
"""

import math
from time import monotonic
from typing import TypeAlias
from weakref import WeakKeyDictionary

from model.core.types import RerankMode, Way
from service.engine import SearchEngine
from service.queries import Search

QUICK_SECONDS = 0.002
LATELY_SECONDS = 60.0  # later, the memory that it reads may have been given to others
MOST_HITS = 100
Kind: TypeAlias = tuple[Way, RerankMode | None]


class QuickSearches:
    """How long plain searches took that were alone; threads may share it."""

    def __init__(self) -> None:
        # By engine and kind the last one's seconds, and when it ended.
        self._last: WeakKeyDictionary[SearchEngine, dict[Kind, tuple[float, float]]]
        self._last = WeakKeyDictionary()

    def include(self, search: Search, engine: SearchEngine) -> bool:
        """Whether the search is plain, and the last one of its kind was quick, and lately."""
        if not is_plain(search, engine):
            return False
        unknown = math.inf, -math.inf
        seconds, ended = self._last.get(engine, {}).get(_kind(search), unknown)
        now = monotonic()
        quick = seconds < QUICK_SECONDS and seconds < search.deadline - now
        return quick and now - ended < LATELY_SECONDS

    def note(self, search: Search, engine: SearchEngine, seconds: float) -> None:
        """Remember how long a search took that was alone."""
        if is_plain(search, engine):
            self._last.setdefault(engine, {})[_kind(search)] = seconds, monotonic()


def is_plain(search: Search, engine: SearchEngine) -> bool:
    """Whether it reads nothing but the index, and no more of it than others of its kind."""
    options = search.options
    extended = options.exact or options.picks or options.filter or options.explain or search.why_not
    wide = options.depth > MOST_HITS or options.budget is not engine.budget
    return not (search.encodes or extended or wide) and engine.lists_at_hand(search.direction)


def _kind(search: Search) -> Kind:
    return search.direction, search.options.rerank
