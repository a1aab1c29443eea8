"""Stage I: which of the items that a filter leaves are candidates, by hash codes and then by PQ."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeAlias

import numpy as np

from model.ann.faiss_door import HammingIndex
from model.ann.selection import along, top_positions
from model.core.types import (
    ByteArray,
    FloatArray,
    Interval,
    RankArray,
    RerankMode,
    RowArray,
    Way,
)
from model.core.vectors import bit_distances, pack_signs
from model.heads.heads import Heads
from model.heads.product_quantiser import adc_scores, lookup_tables
from model.search.grouping import Query, chunks

Distances: TypeAlias = RankArray


@dataclass(frozen=True)
class Hashed:
    """Alike queries after the Hamming stage: candidates (Q, C1) by (distance, row)."""

    queries: Sequence[Query]
    embeddings: FloatArray  # (Q, D)
    hash_space: FloatArray  # (Q, K)
    rows: RowArray
    distances: Distances | None  # None with `exact`: all rows, ascending
    span: Interval
    sharing: int  # queries that the time was spent on

    def __getitem__(self, part: slice) -> "Hashed":
        """Some of the queries."""
        distances = None if self.distances is None else self.distances[part]
        return Hashed(
            self.queries[part],
            self.embeddings[part],
            self.hash_space[part],
            self.rows[part],
            distances,
            self.span,
            self.sharing,
        )


@dataclass(frozen=True)
class Candidates:
    """Candidates (C,) of one query with what Stage I made of them, ranks 0 = best."""

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
class Quantised:
    """Alike queries after Stage I: candidates (Q, C2) by (PQ score, row), with `exact` by row."""

    hashed: Hashed
    rows: RowArray
    places: RowArray | None  # (Q, C2) among the hashed; None with `exact`
    scores: FloatArray | None  # (Q, C1) of the hashed
    span: Interval

    @property
    def queries(self) -> Sequence[Query]:
        """Q queries."""
        return self.hashed.queries

    @property
    def embeddings(self) -> FloatArray:
        """Their embeddings (Q, D)."""
        return self.hashed.embeddings

    @property
    def mode(self) -> RerankMode:
        """The mode of all of them."""
        return self.queries[0].mode

    @property
    def exact(self) -> bool:
        """Whether it is one query with all items as its candidates."""
        return self.places is None


@dataclass(frozen=True)
class StageOne:
    """The codes of one side, and the heads that make queries' codes."""

    direction: Way
    heads: Heads
    hamming: HammingIndex
    pq_codes: ByteArray  # (N, M)

    def keep(self, queries: Sequence[Query]) -> list["Quantised"]:
        """The candidates of alike queries, in chunks that Stage II can take together."""
        hashed = self.hash(queries)
        return [self.quantise(hashed[part]) for part in chunks(queries, self.heads.config)]

    def hash(self, queries: Sequence[Query]) -> Hashed:
        """The Hamming candidates of alike queries."""
        began = perf_counter()
        first = queries[0]
        embeddings = np.array([query.embedding for query in queries])
        vectors = self.heads.heads[self.direction.query].query_hash_space(embeddings)
        distances: Distances | None = None
        if first.options.exact:
            rows = first.selection.all_rows()[None]
        else:
            distances, rows = first.selection.search(pack_signs(vectors), first.counts[0])
        span = began, perf_counter()
        return Hashed(queries, embeddings, vectors, rows, distances, span, len(queries))

    def quantise(self, hashed: Hashed) -> Quantised:
        """The best C2 of each query's candidates by asymmetric PQ score; with `exact` all."""
        began = perf_counter()
        if hashed.distances is None:
            return Quantised(hashed, hashed.rows, None, None, (began, perf_counter()))
        scores = self._scores(hashed.hash_space, hashed.rows)
        places = top_positions(scores, hashed.rows, hashed.queries[0].counts[1])
        rows = along(hashed.rows, places)
        return Quantised(hashed, rows, places, scores, (began, perf_counter()))

    def told(self, kept: Quantised, query: int, places: RowArray) -> Candidates:
        """What Stage I made of some (k,) of a query's candidates."""
        hashed = kept.hashed
        if hashed.distances is None or kept.places is None or kept.scores is None:
            return self._of_all(hashed.hash_space[query], hashed.rows[query]).at(places)
        among = kept.places[query][places]
        return Candidates(
            kept.rows[query][places],
            hashed.distances[query][among],
            kept.scores[query][among],
            among.astype(np.int32),
            places.astype(np.int32),
        )

    def behind(self, kept: Quantised, place: int) -> Candidates:
        """What else is near a query by Hamming distance, up to its reach, by (distance, row).

        Its PQ ranks go on behind the kept ones; what was not looked at keeps its hash rank.
        """
        hashed, query = kept.hashed, kept.queries[place]
        looked = hashed.rows.shape[1]
        most = max(looked, query.options.reach, query.options.depth)
        space = hashed.hash_space[place : place + 1]
        distances, rows = query.selection.search(pack_signs(space), most)
        scores = self._scores(space, rows)[0]
        ranks = np.arange(rows.shape[1], dtype=np.int32)
        pq_ranks = ranks.copy()
        pq_ranks[top_positions(scores[:looked], rows[0, :looked], looked)] = ranks[:looked]
        every = Candidates(rows[0], distances[0], scores, ranks, pq_ranks)
        return every.at(np.flatnonzero(~np.isin(rows[0], kept.rows[place])))

    def _of_all(self, space: FloatArray, rows: RowArray) -> Candidates:
        """All rows as they are, as if each stage had kept them."""
        [code] = pack_signs(space[None])
        distances = bit_distances(self.hamming.codes_of(rows), code)
        scores = self._scores(space[None], rows[None])[0]
        by_hash, by_pq = _ranks(-distances.astype(np.float32), rows), _ranks(scores, rows)
        return Candidates(rows, distances, scores, by_hash, by_pq)

    def _scores(self, hash_space: FloatArray, rows: RowArray) -> FloatArray:
        """Asymmetric PQ scores (Q, C) of each query's rows."""
        books = self.heads.heads[self.direction.candidate].scoring_books
        tables = lookup_tables(books, hash_space)
        return adc_scores(tables, self.pq_codes.take(rows, axis=0))


def _ranks(scores: FloatArray, rows: RowArray) -> RankArray:
    """The rank (C,) of each by (score, row)."""
    ranks = np.empty(len(rows), np.int32)
    ranks[top_positions(scores, rows, len(rows))] = np.arange(len(rows), dtype=np.int32)
    return ranks
