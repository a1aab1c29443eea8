"""Stage I: which of the items that a filter leaves are candidates, by hash codes and then by PQ."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

import numpy as np

from model.ann.faiss_door import HammingIndex
from model.ann.selection import top_positions
from model.core.types import ByteArray, FloatArray, Interval, RankArray, RowArray, Way
from model.core.vectors import bit_distances, pack_signs
from model.heads.heads import Heads
from model.heads.product_quantiser import adc_scores, lookup_tables
from model.search.options import SearchOptions
from model.search.selection import Selection

Distances: TypeAlias = RankArray


@dataclass(frozen=True)
class Query:
    """What is asked, with a mode that is named, and the items that it is asked of."""

    embedding: FloatArray  # (D,)
    options: SearchOptions
    selection: Selection

    @property
    def counts(self) -> tuple[int, int]:
        """(C1, C2) of the items that are searched."""
        n_items = len(self.selection)
        return (n_items, n_items) if self.options.exact else self.options.budget.counts(n_items)


@dataclass(frozen=True)
class Hashed:
    """A query after the Hamming stage: candidates (C1,) by (distance, row)."""

    query: Query
    milliseconds: float
    span: Interval
    hash_space: FloatArray  # (K,)
    rows: RowArray
    distances: Distances


@dataclass(frozen=True)
class Candidates:
    """Candidates (C,) with what Stage I made of them, ranks 0 = best."""

    rows: RowArray
    distances: Distances
    pq_scores: FloatArray
    hash_ranks: RankArray
    pq_ranks: RankArray

    def at(self, places: RowArray) -> "Candidates":
        """Some of them."""
        return Candidates(
            self.rows[places],
            self.distances[places],
            self.pq_scores[places],
            self.hash_ranks[places],
            self.pq_ranks[places],
        )


@dataclass(frozen=True)
class StageOne:
    """The codes of one side, and the heads that make queries' codes."""

    direction: Way
    heads: Heads
    hamming: HammingIndex
    pq_codes: ByteArray  # (N, M)

    def hash(self, queries: Sequence[Query]) -> list[Hashed]:
        """Each query's Hamming candidates; those alike are looked for together."""
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for place, query in enumerate(queries):
            key = (query.counts[0], id(query.selection), query.options.exact)
            groups.setdefault(key, []).append(place)
        found: dict[int, Hashed] = {}
        for (count, _, exact), places in groups.items():
            began = perf_counter()
            alike = [queries[place] for place in places]
            vectors = self._hash_space(alike)
            look = self._everything if exact else self._nearest
            distances, rows = look(alike, vectors, count)
            span = began, perf_counter()
            share = 1e3 * (span[1] - span[0]) / len(places)
            for place, *parts in zip(places, vectors, rows, distances, strict=True):
                found[place] = Hashed(queries[place], share, span, *parts)
        return [found[place] for place in range(len(queries))]

    def quantise(self, hashed: Hashed) -> Candidates:
        """The best C2 of a query's candidates by asymmetric PQ score; with `exact` all by row."""
        if hashed.query.options.exact:
            return self._unsorted(hashed)
        scores = self._scores(hashed, hashed.rows)
        places = top_positions(scores, hashed.rows, hashed.query.counts[1])
        ranks = np.arange(len(places), dtype=np.int32)
        return Candidates(
            hashed.rows[places],
            hashed.distances[places],
            scores[places],
            places.astype(np.int32),
            ranks,
        )

    def behind(self, hashed: Hashed, kept: Candidates) -> Candidates:
        """What else is near by Hamming distance, up to the query's reach, by (distance, row).

        Its PQ ranks go on behind the kept ones; what was not looked at keeps its hash rank.
        """
        query = hashed.query
        most = max(len(hashed.rows), query.options.reach, query.options.depth)
        codes = pack_signs(hashed.hash_space[None])
        (distances,), (rows,) = query.selection.search(codes, most)
        scores = self._scores(hashed, rows)
        ranks = np.arange(len(rows), dtype=np.int32)
        looked = len(hashed.rows)
        pq_ranks = ranks.copy()
        pq_ranks[np.lexsort((rows[:looked], -scores[:looked]))] = ranks[:looked]
        every = Candidates(rows, distances, scores, ranks, pq_ranks)
        return every.at(np.flatnonzero(~np.isin(rows, kept.rows)))

    def _hash_space(self, queries: Sequence[Query]) -> FloatArray:
        """Vectors (Q, K), query by query, so that none depends on its neighbours."""
        head = self.heads.heads[self.direction.query]
        return np.stack([head.query_hash_space(query.embedding) for query in queries])

    def _nearest(
        self, alike: Sequence[Query], vectors: FloatArray, count: int
    ) -> tuple[Sequence[Distances], Sequence[RowArray]]:
        distances, rows = alike[0].selection.search(pack_signs(vectors), count)
        return list(distances), list(rows)

    def _everything(
        self, alike: Sequence[Query], vectors: FloatArray, count: int
    ) -> tuple[Sequence[Distances], Sequence[RowArray]]:
        """Every row, ascending; distances where they are explained, else zeros."""
        rows = alike[0].selection.all_rows()
        distances = [
            bit_distances(self.hamming.codes_of(rows), code)
            if query.options.explain
            else np.zeros(count, np.int32)
            for query, code in zip(alike, pack_signs(vectors), strict=True)
        ]
        return distances, [rows] * len(alike)

    def _unsorted(self, hashed: Hashed) -> Candidates:
        """All candidates as they are; scores and ranks where they are explained, else zeros."""
        rows, distances = hashed.rows, hashed.distances
        nothing = np.zeros(len(rows), np.int32)
        if not hashed.query.options.explain:
            return Candidates(rows, distances, nothing.astype(np.float32), nothing, nothing)
        scores = self._scores(hashed, rows)
        by_hash, by_pq = _ranks(distances, rows), _ranks(-scores, rows)
        return Candidates(rows, distances, scores, by_hash, by_pq)

    def _scores(self, hashed: Hashed, rows: RowArray) -> FloatArray:
        codebooks = self.heads.heads[self.direction.candidate].codebooks
        table = lookup_tables(codebooks, hashed.hash_space[None])[0]
        return adc_scores(table, self.pq_codes[rows])


def _ranks(distances: FloatArray | RankArray, rows: RowArray) -> RankArray:
    """The rank (C,) of each by (distance, row)."""
    ranks = np.empty(len(rows), np.int32)
    ranks[np.lexsort((rows, distances))] = np.arange(len(rows), dtype=np.int32)
    return ranks
