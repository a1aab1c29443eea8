"""Which searches are answered where they come in, where nothing else is to be done.

To wake a thread up and be woken up by it takes a tenth of a search in a small gallery, and gives
nothing to a search that is alone. None is among them that may have to wait, for an encoder, for
Redis or for a computation, nor one whose like has lately taken long: nobody else is heard
meanwhile.
"""

from service.deadlines import Pace, Plan
from service.engine import SearchEngine
from service.queries import Search

QUICK_SECONDS = 0.002  # of the stages
MOST_HITS = 100


def is_quick(search: Search, engine: SearchEngine, pace: Pace) -> bool:
    """Whether it is a plain search over stored lists, and its like have lately been quick."""
    options = search.options
    extended = options.exact or options.picks or options.filter or options.explain or search.why_not
    wide = options.depth > MOST_HITS or options.budget is not engine.budget
    if search.encodes or extended or wide:
        return False
    lately = pace.mean(search.direction, Plan(options))
    return lately is not None and lately < QUICK_SECONDS and engine.lists_at_hand(search.direction)
