"""What the plots of an evaluation show: recall kept against candidates, rSum against memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model.ann.faiss_door import HammingIndex
from model.ann.selection import top_positions
from model.cascade import CandidateSide, Cascade
from model.core.metrics import SHORT, PairRanks, Recalls, first_true
from model.core.types import (
    CandidateBudget,
    Direction,
    FloatArray,
    Frozen,
    Modality,
    RankArray,
    RowArray,
)
from model.core.vectors import pack_signs
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.heads.product_quantiser import adc_scores, lookup_tables
from model.progress import bar
from model.training.evaluation import HITS, Bank, Measured, cascade_lists, list_ranks
from model.training.rankings import RankingName

WIDTHS = (32, 64, 128, 256)
BITS_A_SUBSPACE = 8  # a PQ byte for every byte of hash code
POINTS = 64
QUERY_BLOCK = 256


class KeptCurve(Frozen):
    """Percent of queries with a true match among so many candidates, ascending."""

    candidates: tuple[int, ...]
    percent: tuple[float, ...]
    budget: int  # how many the evaluation kept


class MemoryPoint(Frozen):
    """The cascade's rSum with heads of one size: hash and PQ codes of an item in bytes."""

    n_bits: int
    n_subspaces: int
    bytes_per_item: int
    rsum: float


class Curves(Frozen):
    """Kept curves by stage (`hash`, `pq`) and direction; memory points; rSum of the base.

    `pq` is the PQ stage behind the hash stage's budget: it begins with what that let through.
    """

    kept: dict[str, dict[str, KeptCurve]]
    own: MemoryPoint
    fitted: tuple[MemoryPoint, ...]
    base: float


def curves_of(
    parts: Sequence[Measured], budget: CandidateBudget, sample: Bank, seed: int
) -> Curves:
    """The curves of a split, or their means over folds; heads are fitted to a sample (N, D)."""
    dim = parts[0].cascade.heads.config.embedding_dim
    fitted = []
    for bits in bar(WIDTHS, desc="heads by size"):
        config = HeadsConfig(embedding_dim=dim, n_bits=bits, n_subspaces=bits // BITS_A_SUBSPACE)
        heads = fit_heads(config, sample, seed)
        ranks = [_ranks(part, heads, budget) for part in parts]
        fitted.append(_point(config, _rsum(ranks)))
    return Curves(
        kept=_kept_curves(parts, budget),
        own=_point(parts[0].cascade.heads.config, _rsum([p.ranks[p.served] for p in parts])),
        fitted=tuple(fitted),
        base=_rsum([part.ranks[RankingName.BASE] for part in parts]),
    )


def _point(config: HeadsConfig, rsum: float) -> MemoryPoint:
    bits, subspaces = config.n_bits, config.n_subspaces
    return MemoryPoint(
        n_bits=bits, n_subspaces=subspaces, bytes_per_item=bits // 8 + subspaces, rsum=rsum
    )


def _rsum(folds: Sequence[PairRanks]) -> float:
    return Recalls.mean([Recalls.of(*ranks) for ranks in folds]).rsum


def _ranks(part: Measured, heads: Heads, budget: CandidateBudget) -> PairRanks:
    cascade = with_heads(part.cascade, heads)
    return list_ranks(part.split, cascade_lists(cascade, part.split, budget))


def with_heads(cascade: Cascade, heads: Heads) -> Cascade:
    """The same items, lists and weights behind the codes of other heads."""
    sides: dict[Modality, CandidateSide] = {}
    for modality, side in cascade.sides.items():
        codes = heads.encode(modality, side.embeddings)
        index = HammingIndex.from_codes(codes.hash_codes)
        sides[modality] = replace(side, hamming=index, pq_codes=codes.pq_codes)
    return Cascade(heads, sides, cascade.second.with_heads(heads))


def _kept_curves(
    parts: Sequence[Measured], budget: CandidateBudget
) -> dict[str, dict[str, KeptCurve]]:
    kept: dict[str, dict[str, KeptCurve]] = {"hash": {}, "pq": {}}
    for direction, short in SHORT.items():
        n_items = min(len(part.cascade.sides[direction.candidate]) for part in parts)
        ranks = [stage_ranks(part, direction, budget) for part in parts]
        first, second = budget.keeping(HITS).counts(n_items)
        kept["hash"][short] = _curve([by_hash for by_hash, _ in ranks], n_items, first)
        kept["pq"][short] = _curve([by_pq for _, by_pq in ranks], first, second)
    return kept


def stage_ranks(
    part: Measured, direction: Direction, budget: CandidateBudget
) -> tuple[RankArray, RankArray]:
    """Ranks (Q,) of the best true match after the hash stage and after the PQ stage.

    The hash stage orders the whole gallery, the PQ stage what the budget lets through: a match
    that is not among those ranks behind them.
    """
    way, cascade = part.split.one_way(direction), part.cascade
    side = cascade.sides[direction.candidate]
    first, _ = budget.keeping(HITS).counts(len(side))
    found = []
    for start in range(0, len(way.queries), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        some = way._replace(queries=way.queries[block], query_image=way.query_image[block])
        vectors = cascade.heads.hash_space(direction.query, some.queries)
        rows = side.hamming.search(pack_signs(vectors), len(side))[1]
        tables = lookup_tables(cascade.heads.heads[direction.candidate].codebooks, vectors)
        by_pq = np.stack([_by_pq(side, *one) for one in zip(tables, rows[:, :first], strict=True)])
        found.append((first_true(some.true(rows)), first_true(some.true(by_pq))))
    by_hash, by_pq_too = (np.concatenate(ranks) for ranks in zip(*found, strict=True))
    return by_hash, by_pq_too


def _by_pq(side: CandidateSide, table: FloatArray, rows: RowArray) -> RowArray:
    """Rows (C,) in order of their PQ scores."""
    scores = adc_scores(table, side.pq_codes[rows])
    return rows[top_positions(scores, rows, len(rows))]


def _curve(ranks: Sequence[RankArray], n_most: int, budget: int) -> KeptCurve:
    """The mean over folds at counts that are even on a logarithmic scale."""
    counts = np.unique(np.geomspace(1, n_most, POINTS).round().astype(np.int64))
    counts = np.union1d(counts, [budget])
    shares = [100.0 * np.mean(one[:, None] < counts, axis=0) for one in ranks]
    percent = np.mean(shares, axis=0)
    return KeptCurve(
        candidates=tuple(counts.tolist()), percent=tuple(percent.tolist()), budget=budget
    )
