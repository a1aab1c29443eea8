"""Why an item is not among a query's hits: what each stage of the cascade made of it.

The cascade itself is asked again with longer lists, so that the reasons are those of the search:
the hits themselves, all that Stage II orders, and all that the hash stage keeps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.cascade import Cascade, Ranking, SearchOptions
from model.core.types import Fate, FloatArray, RankArray, RerankMode, RowArray, Way
from model.core.vectors import bit_distances, pack_signs


@dataclass(frozen=True)
class Standing:
    """Where an item stood after each stage that it reached (rank 0 = best), and its fate.

    `kept_by_hash` and `kept_by_pq` are how many candidates those stages keep. Collapsed, it
    belongs to the hit of the row `represented_by`.
    """

    fate: Fate
    hamming_distance: int | None = None
    rank_after_hash: int | None = None
    kept_by_hash: int | None = None
    pq_score: float | None = None
    rank_after_pq: int | None = None
    kept_by_pq: int | None = None
    score: float | None = None
    rank_after_rerank: int | None = None
    calibrated: float | None = None
    represented_by: int | None = None


def standings(
    cascade: Cascade, way: Way, embedding: FloatArray, options: SearchOptions, rows: Sequence[int]
) -> list[Standing]:
    """A standing for each row of the candidates' side, for one query (D,) under its options.

    Raises:
        UnsupportedRerankError: the gallery lacks what the mode needs.
    """
    asked = _Asked(cascade, way, embedding, options)
    return [asked.standing(row) for row in rows]


@dataclass(frozen=True)
class _Asked:
    """One query with its options; each look at its ranking is taken when it is needed."""

    cascade: Cascade
    way: Way
    embedding: FloatArray  # (D,)
    options: SearchOptions

    def standing(self, row: int) -> Standing:
        """Of one row; a hit may stand for an item that Stage II has never seen."""
        if row in self._hits:
            return self._hits[row]
        if not self._selected[row]:
            return Standing(Fate.FILTER)
        reached = self._reached(row)
        if row in self._stand_for:
            return replace(reached, fate=Fate.COLLAPSED, represented_by=self._stand_for[row])
        least, score = self.options.min_score, reached.calibrated
        if least is not None and score is not None and score < np.float32(least):
            return replace(reached, fate=Fate.MIN_SCORE)
        return reached

    def _reached(self, row: int) -> Standing:
        """Of a row that the filter leaves, by the last stage that it reached."""
        if row in self._ordered:
            return self._ordered[row]
        return self._kept[row] if row in self._kept else self._dropped(row)

    @cached_property
    def _ranking(self) -> Ranking:
        """The hits, from the first one of the first page."""
        return self._search(k=self.options.depth)

    @cached_property
    def _hits(self) -> Mapping[int, Standing]:
        first = self.options.offset
        found = enumerate(_explained(self._ranking, Fate.FOUND, self._counts))
        return {
            row: one if place >= first else replace(one, fate=Fate.EARLIER)
            for place, (row, one) in found
        }

    @cached_property
    def _stand_for(self) -> Mapping[int, int]:
        """Of each row that was collapsed, the row of its hit."""
        hits = zip(self._ranking.rows.tolist(), self._ranking.duplicates or (), strict=False)
        return {row: hit for hit, rows in hits for row in rows.tolist()}

    @cached_property
    def _ordered(self) -> Mapping[int, Standing]:
        """What the stages say of all that Stage II orders."""
        ranking = self._search(k=max(1, self._counts[1]), min_score=None, collapse=None)
        return dict(_explained(ranking, Fate.RERANK, self._counts))

    @cached_property
    def _kept(self) -> Mapping[int, Standing]:
        """What Stage I says of all that its hash stage keeps."""
        count = max(1, self._counts[0])
        budget = self.options.budget.model_copy(update={"at_least": count})
        plain = {"min_score": None, "collapse": None, "rerank": RerankMode.NONE}
        ranking = self._search(k=count, budget=budget, **plain)
        found = _explained(ranking, Fate.PQ, self._counts)
        return {
            row: replace(one, score=None, rank_after_rerank=None, calibrated=None)
            for row, one in found
        }

    def _dropped(self, row: int) -> Standing:
        """Of a row that the hash stage dropped: its place among all by (distance, row)."""
        distances, rows = self._distances, self._rows
        own = distances[row]
        nearer = np.count_nonzero(distances[rows] < own)
        before = np.count_nonzero(distances[rows[rows < row]] == own)
        kept_by_hash, kept_by_pq = self._counts
        return Standing(
            Fate.HASH,
            hamming_distance=int(own),
            rank_after_hash=int(nearer + before),
            kept_by_hash=kept_by_hash,
            kept_by_pq=kept_by_pq,
        )

    @cached_property
    def _rows(self) -> RowArray:
        """Rows that the filter leaves, ascending."""
        return self.cascade.selection(self.way, self.options.wanted).all_rows()

    @cached_property
    def _selected(self) -> NDArray[np.bool_]:
        """Which items (N,) the filter leaves."""
        mask = np.zeros(len(self.cascade.sides[self.way.candidate]), np.bool_)
        mask[self._rows] = True
        return mask

    @cached_property
    def _counts(self) -> tuple[int, int]:
        """(C1, C2) of the items that are searched."""
        count = len(self._rows)
        return (count, count) if self.options.exact else self.options.budget.counts(count)

    @cached_property
    def _distances(self) -> RankArray:
        """Hamming distances (N,) of the query to every item."""
        head = self.cascade.heads.heads[self.way.query]
        [code] = pack_signs(head.query_hash_space(self.embedding)[None])
        return bit_distances(self.cascade.sides[self.way.candidate].hamming.codes(), code)

    def _search(self, **changes: object) -> Ranking:
        wide = replace(self.options, offset=0, explain=True, **changes)  # type: ignore[arg-type]
        return self.cascade.search(self.way, self.embedding[None], wide)[0]


def _explained(
    ranking: Ranking, fate: Fate, counts: tuple[int, int]
) -> Iterator[tuple[int, Standing]]:
    """Each row of an explained ranking, in its order, with what every stage made of it."""
    shown, calibrated = ranking.explanation, ranking.calibrated
    if shown is None:
        raise TypeError("a standing needs an explained ranking")
    for place, row in enumerate(ranking.rows.tolist()):
        yield (
            row,
            Standing(
                fate,
                hamming_distance=int(shown.hamming_distance[place]),
                rank_after_hash=int(shown.rank_after_hash[place]),
                kept_by_hash=counts[0],
                pq_score=float(shown.pq_score[place]),
                rank_after_pq=int(shown.rank_after_pq[place]),
                kept_by_pq=counts[1],
                score=float(ranking.scores[place]),
                rank_after_rerank=int(shown.rank_after_rerank[place]),
                calibrated=None if calibrated is None else float(calibrated[place]),
            ),
        )
