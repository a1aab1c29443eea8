"""How well an index answers: measured through the cascade that will serve it.

Where images and captions are paired: recalls of the plain cosine and of the cascade, and the
share of queries whose true match each stage keeps. Always: the share of the exact cosine's
top ten that each stage keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from model.artifact.manifest import ListsKind
from model.artifact.own_queries import Queries, own_queries
from model.artifact.reader import Artifact, ArtifactSide
from model.cascade import Cascade, SearchOptions
from model.core.metrics import SHORT, first_true, recall_at
from model.core.types import Direction, FloatArray, HalfArray, RankArray, RowArray
from model.core.vectors import pack_signs

SAMPLE = 1000
LAZY_SAMPLE = 100  # every list of every candidate has to be computed first
TOP = 10
BLOCK_VALUES = 1 << 26
BLOCK_ROWS = 1 << 16


@dataclass(frozen=True)
class Measured:
    """One direction's figures per query; ranks only where there are true candidates."""

    base: RankArray  # (Q,)
    cascade: RankArray  # (Q,)
    kept_by_hash: NDArray[np.bool_]  # (Q,)
    kept_by_pq: NDArray[np.bool_]  # (Q,)
    top_kept_by_hash: float
    top_kept_by_pq: float
    paired: bool


def measure(
    artifact: Artifact, *, seed: int = 0, sample: int | None = None
) -> dict[str, JsonValue]:
    """Quality on at most `sample` seeded queries a direction, as JSON."""
    if sample is None:
        sample = LAZY_SAMPLE if artifact.manifest.lists is ListsKind.LAZY else SAMPLE
    cascade = Cascade.from_artifact(artifact)
    measured = {}
    for direction, name in SHORT.items():
        queries = own_queries(artifact, direction, sample, seed)
        if queries is not None:
            measured[name] = _measure(artifact, cascade, direction, queries)
    return _summary(measured)


def _summary(measured: dict[str, Measured]) -> dict[str, JsonValue]:
    paired = {name: one for name, one in measured.items() if one.paired}
    result: dict[str, JsonValue] = {
        "queries": {name: len(one.cascade) for name, one in measured.items()},
        "top10_kept": {
            "hash": {name: one.top_kept_by_hash for name, one in measured.items()},
            "pq": {name: one.top_kept_by_pq for name, one in measured.items()},
        },
    }
    if paired:
        result["base"] = _recalls({name: one.base for name, one in paired.items()})
        result["cascade"] = _recalls({name: one.cascade for name, one in paired.items()})
        result["kept"] = {
            "hash": {name: _percent(one.kept_by_hash) for name, one in paired.items()},
            "pq": {name: _percent(one.kept_by_pq) for name, one in paired.items()},
        }
    return result


def _recalls(ranks: dict[str, RankArray]) -> dict[str, JsonValue]:
    """R@1, 5, 10 a direction, and rSum where both are there."""
    recalls = {name: recall_at(one) for name, one in ranks.items()}
    result: dict[str, JsonValue] = {name: list(one) for name, one in recalls.items()}
    if len(recalls) == len(Direction):
        result["rsum"] = sum(sum(one) for one in recalls.values())
    return result


def _percent(shares: Sequence[float] | NDArray[np.bool_]) -> float:
    return 100.0 * float(np.mean(shares))


def _measure(
    artifact: Artifact, cascade: Cascade, direction: Direction, queries: Queries
) -> Measured:
    side = artifact.side(direction.candidate)
    budget = artifact.manifest.budget.keeping(TOP)
    n_hash, n_pq = budget.counts(len(side))
    base, tops = _exact(side, queries)
    hashed = _hash_rows(cascade, direction, queries, side, n_hash)
    wide = SearchOptions(k=n_pq, budget=budget)
    final = np.stack([one.rows for one in cascade.search(direction, queries.embeddings, wide)])
    true_hash, true_final = queries.is_true(hashed), queries.is_true(final)
    return Measured(
        base=base,
        cascade=first_true(true_final),
        kept_by_hash=np.asarray(true_hash.any(axis=1)),
        kept_by_pq=np.asarray(true_final.any(axis=1)),
        top_kept_by_hash=_overlap(tops, hashed),
        top_kept_by_pq=_overlap(tops, final),
        paired=queries.paired,
    )


def _overlap(tops: RowArray, kept: RowArray) -> float:
    """Percent of the exact top rows (Q, 10) found among those kept (Q, C)."""
    pairs = zip(tops, kept, strict=True)
    return _percent([float((top[:, None] == rows).any(axis=1).mean()) for top, rows in pairs])


def _hash_rows(
    cascade: Cascade, direction: Direction, queries: Queries, side: ArtifactSide, count: int
) -> RowArray:
    codes = pack_signs(cascade.heads.hash_space(direction.query, queries.embeddings))
    return side.hamming.search(codes, count)[1]


def _exact(side: ArtifactSide, queries: Queries) -> tuple[RankArray, RowArray]:
    """Rank (Q,) of the best true candidate by cosine, and the top ten rows (Q, 10)."""
    step = max(1, BLOCK_VALUES // len(side))
    ranks: list[int] = []
    tops = []
    for start in range(0, len(queries.embeddings), step):
        part = queries.part(start, start + step)
        scores = _cosines(part.embeddings, side.embeddings)  # (q, N)
        tops.append(np.argpartition(-scores, min(TOP, len(side)) - 1)[:, :TOP])
        ranks += [_true_rank(one, part, at) for at, one in enumerate(scores)]
    return np.array(ranks, dtype=np.int32), np.concatenate(tops)


def _cosines(queries: FloatArray, candidates: HalfArray) -> FloatArray:
    """Cosines (Q, N), without a float copy of all candidates."""
    scores = np.empty((len(queries), len(candidates)), dtype=np.float32)
    for start in range(0, len(candidates), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        scores[:, block] = queries @ candidates[block].astype(np.float32).T
    return scores


def _true_rank(scores: FloatArray, queries: Queries, query: int) -> int:
    """Rank of the best true candidate; equal scores go to the lower row."""
    first, count = int(queries.first[query]), int(queries.count[query])
    if not count:
        return len(scores)
    own = scores[first : first + count]
    best = first + int(own.argmax())
    return int((scores > scores[best]).sum() + (scores[:best] == scores[best]).sum())
