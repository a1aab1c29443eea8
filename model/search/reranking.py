"""Stage II over a chunk of alike queries, and the rankings that come of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.ann.selection import along, top_positions
from model.core.types import Interval
from model.rerankers.hubs import Hubs
from model.rerankers.ordering import Reranked
from model.rerankers.second_stage import SecondStage, Shortlist
from model.reverse_lists.layers import ReverseListSource
from model.search.calibration import Usual
from model.search.listing import Listed, behind, reranked
from model.search.picking import Picked, Picker
from model.search.ranking import Ranking, Times, ranking_of
from model.search.stage_one import Quantised, StageOne


@dataclass(frozen=True)
class Reranking:
    """Stage II with what it reads of one side."""

    first: StageOne
    second: SecondStage
    embeddings: NDArray[np.floating]  # (N, D)
    lists: ReverseListSource | None
    hubs: Hubs
    usual: Mapping[int, Usual]  # what the scores of some queries are compared with, by place
    common: Interval  # of what was done at once for all queries
    sharing: int  # queries that it was done for

    def rankings(self, kept: Quantised) -> list[Ranking]:
        """A ranking for each query of a chunk."""
        began = perf_counter()
        final = self._reranked(kept)
        rows = along(kept.rows, final.places)
        spent = (perf_counter() - began) / len(rows)
        spent += (self.common[1] - self.common[0]) / self.sharing
        found = []
        for place, query in enumerate(kept.queries):
            began = perf_counter()
            usual = self.usual.get(query.place)
            picker = Picker(query.options, usual, self.first.hamming.codes_of)
            told = partial(self.first.told, kept, place)
            parts = self._picked(kept, place, reranked(rows[place], final, place, told), picker)
            ended = perf_counter()
            times = _times(kept, spent + ended - began, (self.common[0], ended))
            found.append(ranking_of(query.options, parts, picker, final.applied, times))
        return found

    def _reranked(self, kept: Quantised) -> Reranked:
        """The candidates in the order of their mode, as deep as one of the queries looks."""
        most = kept.rows.shape[1]
        wanted = max(most if q.options.picks else q.options.depth for q in kept.queries)
        shortlist = Shortlist.of(
            self.first.direction,
            kept.embeddings,
            kept.hashed.hash_space,
            kept.rows,
            self.embeddings,
            self.lists,
            self.hubs,
        )
        return self.second.rerank(shortlist, kept.mode, min(wanted, most))

    def _picked(
        self, kept: Quantised, place: int, listed: Listed, picker: Picker
    ) -> list[tuple[Listed, Picked]]:
        """A query's hits among its candidates and, where these are too few, behind them."""
        parts = [(listed, picker.take(listed.rows, listed.consistency))]
        if picker.missing and len(listed) < len(kept.queries[place].selection):
            rest = self._behind(kept, place, listed)
            parts.append((rest, picker.take(rest.rows, rest.consistency)))
        return parts

    def _behind(self, kept: Quantised, place: int, listed: Listed) -> Listed:
        """What Stage II has not seen of the items near a query, by cosine."""
        candidates = self.first.behind(kept, place)
        own = slice(place, place + 1)
        shortlist = Shortlist.of(
            self.first.direction,
            kept.embeddings[own],
            kept.hashed.hash_space[own],
            candidates.rows[None],
            self.embeddings,
            None,
        )
        [cosines] = shortlist.cosines
        order = top_positions(cosines, candidates.rows, len(cosines))
        return behind(candidates.at(order), cosines[order], listed)


def _times(kept: Quantised, reranking: float, span: Interval) -> Times:
    """The milliseconds of a query, and the stretches of time that it shared with others."""
    first, second = kept.hashed.span, kept.span
    return Times(
        {
            "hash": 1e3 * (first[1] - first[0]) / kept.hashed.sharing,
            "pq": 1e3 * (second[1] - second[0]) / len(kept.queries),
            "rerank": 1e3 * reranking,
        },
        {"hash": first, "pq": second, "rerank": span},
    )
