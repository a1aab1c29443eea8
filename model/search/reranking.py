"""Stage II over a chunk of alike queries, and the rankings that come of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.ann.selection import along, top_positions
from model.core.types import FloatArray, Interval
from model.rerankers.ordering import Reranked
from model.rerankers.second_stage import SecondStage, Shortlist
from model.reverse_lists.layers import ReverseListSource
from model.search.calibration import Background
from model.search.grouping import Query
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
    background: Background | None  # what scores are compared with

    def rankings(self, kept: Quantised, fetching: Interval, sharing: int) -> list[Ranking]:
        """A ranking for each query of a chunk.

        Fetching lists was done at once for all queries that share it.
        """
        began = perf_counter()
        final = self._reranked(kept)
        rows = along(kept.rows, final.places)
        usual = self._usual(kept.queries)
        spent = (perf_counter() - began) / len(rows) + (fetching[1] - fetching[0]) / sharing
        found = []
        for place, query in enumerate(kept.queries):
            began = perf_counter()
            picker = Picker(query.options, usual[place], self.first.hamming.codes_of)
            told = partial(self.first.told, kept, place)
            parts = self._picked(kept, place, reranked(rows[place], final, place, told), picker)
            ended = perf_counter()
            times = _times(kept, spent + ended - began, (fetching[0], ended))
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
        )
        return self.second.rerank(shortlist, kept.mode, min(wanted, most))

    def _usual(self, queries: Sequence[Query]) -> Sequence[FloatArray | None]:
        """What each query's scores are compared with, None where that is not asked for."""
        if self.background is None:
            return [None] * len(queries)
        asked = [q.options.calibrate or q.options.min_score is not None for q in queries]
        vectors = [q.embedding for q, wants in zip(queries, asked, strict=True) if wants]
        found = iter(self.background.usual(np.stack(vectors)) if vectors else ())
        return [next(found) if wants else None for wants in asked]

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
