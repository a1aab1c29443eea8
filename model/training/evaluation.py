"""Evaluation as the field does it, through the cascade that is served.

Base is the cosine alone; `reference` is the papers' released rule on what Stage I keeps;
the cascade is measured transductively (the bank is the evaluated split itself, as papers do)
and, where another bank is given, inductively (as a service meets it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.ann.faiss_door import HammingIndex
from model.cascade import CandidateSide, Cascade, SearchOptions
from model.core.bootstrap import Interval, rsum_draws
from model.core.metrics import SHORT, PairRanks, RankSummaries, Recalls, ranks_of_pairs
from model.core.types import (
    CandidateBudget,
    Direction,
    Frozen,
    HalfArray,
    Modality,
    RerankMode,
    RowArray,
)
from model.core.vectors import pack_signs
from model.heads.heads import Heads
from model.rerankers.learned.reranker import LearnedReranker
from model.rerankers.learned.serving import LearnedMode
from model.rerankers.pairs import PairBank
from model.rerankers.reference import filtered, reference_order
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import StageTwo
from model.reverse_lists.compute import reverse_lists
from model.training.embedded import Embedded
from model.training.rankings import Lists, RankingName, true_ranks

Bank = Mapping[Modality, NDArray[np.floating]]
LIST_DEPTH = 128
HITS = 10
PROTOCOLS = (RankingName.TRANSDUCTIVE, RankingName.INDUCTIVE)
CASCADE = "cascade"
_UNBOUNDED = 2**31
# Shares of the gallery and no bounds: what papers keep, whatever the gallery's size.
SHARES_ALONE = CandidateBudget(at_least=1, max_hash=_UNBOUNDED, max_pq=_UNBOUNDED)


class Percent(Frozen):
    """A share of the queries of either direction, or a score, in percent."""

    i2t: float
    t2i: float


class KeptRows(NamedTuple):
    """Candidate rows (Q, C1) and (Q, C2) that the two stages of filtering keep."""

    by_hash: RowArray
    by_pq: RowArray


class Intervals(Frozen):
    """Bootstrap intervals over images: rSum of each ranking, and how far it is above base."""

    draws: int
    seed: int
    rsum: dict[str, Interval]
    above_base: dict[str, Interval]


class Evaluation(Frozen):
    """What `meet-eval` prints; a protocol, interval or score that was not run is null."""

    base: Recalls
    reference: Recalls
    cascade: Recalls
    protocols: dict[str, Recalls | None]
    ranks: dict[str, RankSummaries]
    intervals: Intervals | None
    coco: dict[str, dict[str, Percent]] | None = None
    kept: dict[str, Percent]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Measured:
    """Of one split or fold: the lists and ranks of each ranking, and what Stage I keeps."""

    split: Embedded
    cascade: Cascade  # as it is served: inductive where there is a bank
    lists: Mapping[RankingName, Lists]  # without base, which lists nothing
    ranks: Mapping[RankingName, PairRanks]
    kept: Mapping[str, Percent]

    @classmethod
    def of(
        cls, split: Embedded, cascades: Mapping[RankingName, Cascade], budget: CandidateBudget
    ) -> "Measured":
        """Every measure under each protocol's cascade, the one that is served coming last."""
        served = list(cascades.values())[-1]
        kept = stage_one(served, split, budget)
        lists = {RankingName.REFERENCE: reference_lists(split, kept)}
        lists |= {name: cascade_lists(one, split, budget) for name, one in cascades.items()}
        ranks = {RankingName.BASE: base_ranks(split)}
        ranks |= {name: list_ranks(split, listed) for name, listed in lists.items()}
        return cls(split, served, lists, ranks, kept_shares(split, kept))

    @property
    def served(self) -> RankingName:
        """The protocol that a service meets, where it was run."""
        return [name for name in PROTOCOLS if name in self.ranks][-1]


@dataclass(frozen=True)
class TableLists:
    """Reverse lists (N, z) held in memory."""

    table: HalfArray

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists (C, z) of rows (C,)."""
        return self.table[rows]


def evaluate_split(
    split: Embedded,
    heads: Heads,
    stage_two: StageTwo,
    budget: CandidateBudget,
    bank: Embedded | None,
    z: int = LIST_DEPTH,
) -> Evaluation:
    """Every measure of one split; `bank` adds the inductive protocol, and its pairs to both.

    The split's own pairs are the answers that are asked for: they are never a bank of pairs.
    """
    return evaluation_of([measure_split(split, heads, stage_two, budget, bank, z)])


def measure_split(
    split: Embedded,
    heads: Heads,
    stage_two: StageTwo,
    budget: CandidateBudget,
    bank: Embedded | None,
    z: int = LIST_DEPTH,
    learned: LearnedReranker | None = None,
) -> Measured:
    """The rankings of one split or fold; `bank` adds the inductive protocol, its pairs to both."""
    pairs = None if bank is None else pair_bank(bank, heads)
    own = cascade_over(split, heads, stage_two, None, pairs, z, learned)
    cascades = {RankingName.TRANSDUCTIVE: own}
    if bank is not None:
        cascades[RankingName.INDUCTIVE] = cascade_over(
            split, heads, stage_two, bank.embeddings, pairs, z, learned
        )
    return Measured.of(split, cascades, budget)


def evaluation_of(parts: Sequence[Measured], draws: int = 0, seed: int = 0) -> Evaluation:
    """The figures of a split, or their mean over folds, measure by measure."""
    recalls = {
        name: Recalls.mean([Recalls.of(*part.ranks[name]) for part in parts])
        for name in parts[0].ranks
    }
    served = parts[0].served
    ranks = {
        name.value: RankSummaries.average([part.ranks[name] for part in parts]) for name in recalls
    }
    return Evaluation(
        base=recalls[RankingName.BASE],
        reference=recalls[RankingName.REFERENCE],
        cascade=recalls[served],
        protocols={name.value: recalls.get(name) for name in PROTOCOLS},
        ranks={**ranks, CASCADE: ranks[served]},
        intervals=_intervals(parts, recalls, draws, seed) if draws else None,
        kept=_mean_shares([part.kept for part in parts]),
        seconds={},
    )


def _mean_shares(parts: Sequence[Mapping[str, Percent]]) -> dict[str, Percent]:
    return {
        name: Percent(
            i2t=float(np.mean([part[name].i2t for part in parts])),
            t2i=float(np.mean([part[name].t2i for part in parts])),
        )
        for name in parts[0]
    }


def _intervals(
    parts: Sequence[Measured], recalls: Mapping[RankingName, Recalls], draws: int, seed: int
) -> Intervals:
    """Each fold's images are drawn among themselves; a draw's rSum is the mean over folds."""
    by_fold = [
        rsum_draws([part.ranks[name] for name in recalls], part.split.image_of_text, draws, own)
        for part, own in zip(parts, ((seed, fold) for fold in range(len(parts))), strict=True)
    ]
    drawn = dict(zip(recalls, np.mean(by_fold, axis=0), strict=True))
    base, drawn_base = recalls[RankingName.BASE].rsum, drawn[RankingName.BASE]
    rsum = {name.value: Interval.of(recalls[name].rsum, drawn[name]) for name in recalls}
    above = {
        name.value: Interval.of(recalls[name].rsum - base, drawn[name] - drawn_base)
        for name in recalls
        if name is not RankingName.BASE
    }
    served = parts[0].served
    return Intervals(
        draws=draws,
        seed=seed,
        rsum={**rsum, CASCADE: rsum[served]},
        above_base={**above, CASCADE: above[served]},
    )


def pair_bank(bank: Embedded, heads: Heads) -> PairBank:
    """A bank of pairs at the precision that an artifact stores."""
    halves = {m: e.astype(np.float16) for m, e in bank.embeddings.items()}
    return PairBank(halves, bank.image_of_text, heads)


def cascade_over(
    split: Embedded,
    heads: Heads,
    stage_two: StageTwo,
    bank: Bank | None,
    pairs: PairBank | None = None,
    z: int = LIST_DEPTH,
    learned: LearnedReranker | None = None,
) -> Cascade:
    """A cascade over a split held in memory, at the precision that an artifact stores.

    Without a bank the lists, z long, rank the split's own queries.
    """
    over = split.embeddings if bank is None else bank
    sides = {}
    for modality, embeddings in split.embeddings.items():
        stored = embeddings.astype(np.float16)
        codes = heads.encode(modality, stored)
        lists = reverse_lists(stored, np.asarray(over[modality.other], np.float16), z)
        index = HammingIndex.from_codes(codes.hash_codes)
        sides[modality] = CandidateSide(index, codes.pq_codes, stored, TableLists(lists))
    mode = None if learned is None or pairs is None else learned_mode(learned, split, heads, pairs)
    return Cascade(heads, sides, SecondStage(stage_two, pairs, own_bank=bank is None, learned=mode))


def learned_mode(
    reranker: LearnedReranker, split: Embedded, heads: Heads, pairs: PairBank
) -> LearnedMode:
    """The learned re-ranker over a split held in memory."""
    return LearnedMode(reranker, contexts_of(split, heads, pairs))


def contexts_of(split: Embedded, heads: Heads, pairs: PairBank) -> dict[Modality, HalfArray]:
    """What a bank of pairs says of a split's items (N, 3, D), as an index stores it."""
    halves = {m: e.astype(np.float16) for m, e in split.embeddings.items()}
    return {m: pairs.contexts(m, e, heads.hash_space(m, e)) for m, e in halves.items()}


def base_ranks(split: Embedded) -> PairRanks:
    """Ranks by the plain cosine over the whole split."""
    similarities = split.embeddings[Modality.IMAGE] @ split.embeddings[Modality.TEXT].T
    return ranks_of_pairs(similarities, split.image_of_text)


def list_ranks(split: Embedded, lists: Lists) -> PairRanks:
    """Ranks of the true matches under lists of both directions."""
    return PairRanks.of({d: true_ranks(split.one_way(d), own) for d, own in lists.items()})


def cascade_lists(
    cascade: Cascade, split: Embedded, budget: CandidateBudget, rerank: RerankMode | None = None
) -> Lists:
    """All that the cascade lists of either direction: what Stage I keeps, in its final order."""
    lists = {}
    for direction in Direction:
        deep = budget.keeping(HITS)
        _, count = deep.counts(len(cascade.sides[direction.candidate]))
        options = SearchOptions(k=count, budget=deep, rerank=rerank)
        lists[direction] = _orders(cascade, split, direction, options)
    return lists


def stage_one(
    cascade: Cascade, split: Embedded, budget: CandidateBudget
) -> dict[Direction, KeptRows]:
    """What Stage I keeps of each direction's queries."""
    return {direction: _kept(cascade, split, direction, budget) for direction in Direction}


def reference_lists(split: Embedded, kept: Mapping[Direction, KeptRows]) -> Lists:
    """What Stage I kept by the released rule: reverse ranks over the similarities kept."""
    lists = {}
    for direction in Direction:
        way, rows = split.one_way(direction), kept[direction].by_pq
        similarities = way.queries @ way.candidates.T
        lists[direction] = reference_order(filtered(similarities, rows))[:, : rows.shape[1]]
    return lists


def kept_shares(split: Embedded, kept: Mapping[Direction, KeptRows]) -> dict[str, Percent]:
    """Percent of queries with a true match still there after each stage of filtering."""
    shares: dict[str, dict[str, float]] = {"hash": {}, "pq": {}}
    for direction, short in SHORT.items():
        way = split.one_way(direction)
        shares["hash"][short] = _share(way.true(kept[direction].by_hash))
        shares["pq"][short] = _share(way.true(kept[direction].by_pq))
    return {stage: Percent(**values) for stage, values in shares.items()}


def _kept(
    cascade: Cascade, split: Embedded, direction: Direction, budget: CandidateBudget
) -> KeptRows:
    side = cascade.sides[direction.candidate]
    vectors = cascade.heads.hash_space(direction.query, split.embeddings[direction.query])
    deep = budget.keeping(HITS)
    first, second = deep.counts(len(side))
    options = SearchOptions(k=second, budget=deep, rerank=RerankMode.NONE)
    by_hash = side.hamming.search(pack_signs(vectors), first)[1]
    return KeptRows(by_hash, _orders(cascade, split, direction, options))


def _orders(
    cascade: Cascade, split: Embedded, direction: Direction, options: SearchOptions
) -> RowArray:
    """Candidate rows (Q, k) of every query, best first."""
    rankings = cascade.search(direction, split.embeddings[direction.query], options)
    return np.stack([ranking.rows for ranking in rankings])


def _share(true: NDArray[np.bool_]) -> float:
    return 100.0 * float(true.any(axis=1).mean())
