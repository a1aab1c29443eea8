"""Why an item is not among a query's hits: what each stage of the cascade made of it.

The cascade itself is asked again with longer lists, so that the reasons are those of the search:
all that Stage I keeps, and all that Stage II orders.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from model.ann.oracle import hamming_distances
from model.cascade import Cascade, Ranking, SearchOptions
from model.core.types import Fate, FloatArray, RankArray, RerankMode, Way
from model.core.vectors import pack_signs

BLOCK = 65_536  # codes that are compared at once


@dataclass(frozen=True)
class Standing:
    """Where an item stood after each stage that it reached (rank 0 = best), and its fate.

    `kept_by_hash` and `kept_by_pq` are how many candidates those stages keep.
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


@dataclass(frozen=True)
class _Asked:
    """One query (D,) with its options, and how many candidates each stage keeps for it."""

    cascade: Cascade
    way: Way
    embedding: FloatArray
    options: SearchOptions
    kept_by_hash: int
    kept_by_pq: int


def standings(
    cascade: Cascade, way: Way, embedding: FloatArray, options: SearchOptions, rows: Sequence[int]
) -> list[Standing]:
    """A standing for each row of the candidates' side.

    Raises:
        UnsupportedRerankError: the gallery lacks what the mode needs.
    """
    counts = options.budget.counts(len(cascade.sides[way.candidate]), options.k)
    asked = _Asked(cascade, way, embedding, options, *counts)
    kept, ordered = _kept(asked), _ordered(asked)
    dropped = _dropped(asked, [row for row in rows if row not in kept])
    return [dropped[row] if row in dropped else ordered.get(row, kept[row]) for row in rows]


def _kept(asked: _Asked) -> Mapping[int, Standing]:
    """By row, what Stage I says of all that its hash stage keeps."""
    count = asked.kept_by_hash
    budget = asked.options.budget.model_copy(update={"at_least": count})
    ranking = _ranking(asked, k=count, budget=budget, rerank=RerankMode.NONE)
    return {row: replace(one, fate=Fate.PQ) for row, one in _stage_one(asked, ranking)}


def _ordered(asked: _Asked) -> Mapping[int, Standing]:
    """By row, what the stages say of all that Stage II orders."""
    ranking = _ranking(asked, k=asked.kept_by_pq)
    return {
        row: replace(
            one,
            fate=Fate.FOUND if rank < asked.options.k else Fate.RERANK,
            score=float(ranking.scores[rank]),
            rank_after_rerank=rank,
        )
        for rank, (row, one) in enumerate(_stage_one(asked, ranking))
    }


def _ranking(asked: _Asked, **changes: object) -> Ranking:
    options = replace(asked.options, explain=True, **changes)  # type: ignore[arg-type]
    return asked.cascade.search(asked.way, asked.embedding[None], options)[0]


def _stage_one(asked: _Asked, ranking: Ranking) -> Iterator[tuple[int, Standing]]:
    """Each row of an explained ranking, in its order, with what Stage I made of it."""
    shown = ranking.explanation
    if shown is None:
        raise TypeError("a standing needs an explained ranking")
    for place, row in enumerate(ranking.rows.tolist()):
        yield (
            row,
            Standing(
                Fate.HASH,
                hamming_distance=int(shown.hamming_distance[place]),
                rank_after_hash=int(shown.rank_after_hash[place]),
                kept_by_hash=asked.kept_by_hash,
                pq_score=float(shown.pq_score[place]),
                rank_after_pq=int(shown.rank_after_pq[place]),
                kept_by_pq=asked.kept_by_pq,
            ),
        )


def _dropped(asked: _Asked, rows: Sequence[int]) -> Mapping[int, Standing]:
    """By row, where items that the hash stage dropped stood among all by (distance, row)."""
    if not rows:
        return {}
    distances = _distances(asked)
    return {
        row: Standing(
            Fate.HASH,
            hamming_distance=int(distances[row]),
            rank_after_hash=_rank(distances, row),
            kept_by_hash=asked.kept_by_hash,
            kept_by_pq=asked.kept_by_pq,
        )
        for row in rows
    }


def _distances(asked: _Asked) -> RankArray:
    """Hamming distances (N,) of the query to every item."""
    cascade, way = asked.cascade, asked.way
    head = cascade.heads.heads[way.query]
    code = pack_signs(head.query_hash_space(asked.embedding)[None])
    codes = cascade.sides[way.candidate].hamming.codes()
    blocks = range(0, len(codes), BLOCK)
    return np.concatenate([hamming_distances(code, codes[at : at + BLOCK])[0] for at in blocks])


def _rank(distances: RankArray, row: int) -> int:
    nearer = np.count_nonzero(distances < distances[row])
    return int(nearer + np.count_nonzero(distances[:row] == distances[row]))
