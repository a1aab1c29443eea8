"""More like an item: the item itself is not among the answers."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.cascade import Explanation, Ranking, SearchOptions
from model.core.types import Fate, Kinship, RowArray
from model.why_not import Standing
from service.queries import Search, StoredQuery

RANKS = ("rank_after_hash", "rank_after_pq", "rank_after_rerank")


def own_row(search: Search) -> int | None:
    """The row of the item that asks for others of its own kind; None in any other search."""
    alike = isinstance(search.direction, Kinship)
    return search.query.row if alike and isinstance(search.query, StoredQuery) else None


def with_room(search: Search, options: SearchOptions) -> SearchOptions:
    """The options of all hits up to the last one wanted, with a place for the item itself."""
    if own_row(search) is None:
        return options
    return replace(options, offset=0, k=options.depth + 1)


def without(ranking: Ranking, row: int, options: SearchOptions) -> Ranking:
    """The page of hits that the options want, every rank as if the item had not been there.

    Near-duplicates that the item itself stands for are left out with it.
    """
    own = ranking.rows == row
    places = np.flatnonzero(~own)[options.offset : options.depth]
    shown, shares, others = ranking.explanation, ranking.calibrated, ranking.duplicates
    return replace(
        ranking,
        rows=ranking.rows[places],
        scores=ranking.scores[places],
        explanation=None if shown is None else _left(shown, own, places),
        calibrated=None if shares is None else shares[places],
        duplicates=None if others is None else [others[p][others[p] != row] for p in places],
        offset=options.offset,
    )


def standing_without(row: int, standing: Standing, own: Standing, page: Ranking) -> Standing:
    """The same as if the item of the standing `own` were not in the gallery, with this page."""
    lowered = {name: _lowered(getattr(standing, name), getattr(own, name)) for name in RANKS}
    kept = {
        "kept_by_hash": _fewer(standing.kept_by_hash, own.pq_score is not None),
        "kept_by_pq": _fewer(standing.kept_by_pq, own.score is not None),
    }
    fate = standing.fate
    if fate is Fate.FOUND and not (page.rows == row).any():
        # One more hit was asked for than is shown, and those of the pages before.
        first = page.scores.max(initial=-np.inf)
        fate = Fate.EARLIER if page.offset and (standing.score or 0) >= first else Fate.RERANK
    return replace(standing, fate=fate, **lowered, **kept)


def _lowered(rank: int | None, own: int | None) -> int | None:
    return rank if rank is None or own is None else rank - (rank > own)


def _fewer(kept: int | None, with_own: bool) -> int | None:
    return kept if kept is None else kept - with_own


def _left(shown: Explanation, own: NDArray[np.bool_], places: RowArray) -> Explanation:
    """What is explained of these places, ranks behind the item's own one lower."""
    left = {name: values[places] for name, values in vars(shown).items()}
    for name in RANKS if own.any() else ():
        left[name] -= left[name] > vars(shown)[name][own][0]
    return Explanation(**left)
