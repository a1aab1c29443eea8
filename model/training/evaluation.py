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
from model.core.metrics import Recalls, first_true, ranks_of_pairs
from model.core.types import (
    CandidateBudget,
    Direction,
    FloatArray,
    Frozen,
    HalfArray,
    Modality,
    RankArray,
    RerankMode,
    RowArray,
)
from model.core.vectors import pack_signs
from model.heads.heads import Heads
from model.rerankers.pairs import PairBank
from model.rerankers.reference import filtered, reference_order
from model.rerankers.weights import StageTwo
from model.reverse_lists.compute import reverse_lists

Bank = Mapping[Modality, NDArray[np.floating]]
SHORT = {Direction.IMAGE_TO_TEXT: "i2t", Direction.TEXT_TO_IMAGE: "t2i"}
LIST_DEPTH = 128
HITS = 10


@dataclass(frozen=True)
class Embedded:
    """A split's unit embeddings (N, D) and (T, D), and each caption's image (T,)."""

    embeddings: Mapping[Modality, FloatArray]
    image_of_text: RowArray

    def fold(self, index: int, folds: int) -> "Embedded":
        """One of `folds` runs of consecutive images, with their captions."""
        images = np.array_split(np.arange(len(self.embeddings[Modality.IMAGE])), folds)[index]
        texts = np.isin(self.image_of_text, images)
        embeddings = {
            Modality.IMAGE: self.embeddings[Modality.IMAGE][images],
            Modality.TEXT: self.embeddings[Modality.TEXT][texts],
        }
        return Embedded(embeddings, self.image_of_text[texts] - images[0])

    def true(self, direction: Direction, order: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which candidates of orders (Q, C) belong to their query."""
        if direction is Direction.IMAGE_TO_TEXT:
            return np.asarray(self.image_of_text[order] == np.arange(len(order))[:, None])
        return np.asarray(order == self.image_of_text[:, None])


class Kept(Frozen):
    """Percent of queries with a true match among what a stage keeps."""

    i2t: float
    t2i: float


class KeptRows(NamedTuple):
    """Candidate rows (Q, C1) and (Q, C2) that the two stages of filtering keep."""

    by_hash: RowArray
    by_pq: RowArray


class Evaluation(Frozen):
    """What `meet-eval` prints; a protocol that was not run is null."""

    base: Recalls
    reference: Recalls
    cascade: Recalls
    protocols: dict[str, Recalls | None]
    kept: dict[str, Kept]
    seconds: dict[str, float]


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
    pairs = None if bank is None else pair_bank(bank, heads)
    own = cascade_over(split, heads, stage_two, None, pairs, z)
    transductive = recalls(own, split, budget)
    inductive = None
    if bank is not None:
        over_bank = cascade_over(split, heads, stage_two, bank.embeddings, pairs, z)
        inductive = recalls(over_bank, split, budget)
    kept = stage_one(own, split, budget)
    return Evaluation(
        base=base_recalls(split),
        reference=reference_recalls(split, kept),
        cascade=inductive or transductive,
        protocols={"transductive": transductive, "inductive": inductive},
        kept=kept_shares(split, kept),
        seconds={},
    )


def mean_evaluation(parts: Sequence[Evaluation]) -> Evaluation:
    """The mean over folds, measure by measure."""
    protocols = {name: _mean([p.protocols[name] for p in parts]) for name in parts[0].protocols}
    return Evaluation(
        base=Recalls.mean([part.base for part in parts]),
        reference=Recalls.mean([part.reference for part in parts]),
        cascade=Recalls.mean([part.cascade for part in parts]),
        protocols=protocols,
        kept={
            stage: Kept(
                i2t=float(np.mean([part.kept[stage].i2t for part in parts])),
                t2i=float(np.mean([part.kept[stage].t2i for part in parts])),
            )
            for stage in parts[0].kept
        },
        seconds={},
    )


def _mean(parts: Sequence[Recalls | None]) -> Recalls | None:
    run = [part for part in parts if part is not None]
    return Recalls.mean(run) if run else None


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
    return Cascade(heads, sides, stage_two, pairs, own_bank=bank is None)


def base_recalls(split: Embedded) -> Recalls:
    """Recalls of the plain cosine over the whole split."""
    similarities = split.embeddings[Modality.IMAGE] @ split.embeddings[Modality.TEXT].T
    return Recalls.of(*ranks_of_pairs(similarities, split.image_of_text))


def recalls(cascade: Cascade, split: Embedded, budget: CandidateBudget) -> Recalls:
    """Recalls of the answers that the cascade gives."""
    options = SearchOptions(k=HITS, budget=budget)
    return _both({d: _ranks(split, d, _orders(cascade, split, d, options)) for d in Direction})


def stage_one(
    cascade: Cascade, split: Embedded, budget: CandidateBudget
) -> dict[Direction, KeptRows]:
    """What Stage I keeps of each direction's queries."""
    return {direction: _kept(cascade, split, direction, budget) for direction in Direction}


def reference_recalls(split: Embedded, kept: Mapping[Direction, KeptRows]) -> Recalls:
    """Recalls of the released rule: reverse ranks over the similarities that Stage I kept."""
    ranks = {}
    for direction in Direction:
        queries = split.embeddings[direction.query]
        similarities = queries @ split.embeddings[direction.candidate].T
        order = reference_order(filtered(similarities, kept[direction].by_pq))
        ranks[direction] = _ranks(split, direction, order)
    return _both(ranks)


def kept_shares(split: Embedded, kept: Mapping[Direction, KeptRows]) -> dict[str, Kept]:
    """Percent of queries with a true match still there after each stage of filtering."""
    shares: dict[str, dict[str, float]] = {"hash": {}, "pq": {}}
    for direction, short in SHORT.items():
        shares["hash"][short] = _share(split.true(direction, kept[direction].by_hash))
        shares["pq"][short] = _share(split.true(direction, kept[direction].by_pq))
    return {stage: Kept(**values) for stage, values in shares.items()}


def _kept(
    cascade: Cascade, split: Embedded, direction: Direction, budget: CandidateBudget
) -> KeptRows:
    side = cascade.sides[direction.candidate]
    vectors = cascade.heads.hash_space(direction.query, split.embeddings[direction.query])
    first, second = budget.counts(len(side), HITS)
    options = SearchOptions(k=second, budget=budget, rerank=RerankMode.NONE)
    by_hash = side.hamming.search(pack_signs(vectors), first)[1]
    return KeptRows(by_hash, _orders(cascade, split, direction, options))


def _orders(
    cascade: Cascade, split: Embedded, direction: Direction, options: SearchOptions
) -> RowArray:
    """Candidate rows (Q, k) of every query, best first."""
    rankings = cascade.search(direction, split.embeddings[direction.query], options)
    return np.stack([ranking.rows for ranking in rankings])


def _ranks(split: Embedded, direction: Direction, order: RowArray) -> RankArray:
    return first_true(split.true(direction, order))


def _both(ranks: Mapping[Direction, RankArray]) -> Recalls:
    return Recalls.of(ranks[Direction.IMAGE_TO_TEXT], ranks[Direction.TEXT_TO_IMAGE])


def _share(true: NDArray[np.bool_]) -> float:
    return 100.0 * float(true.any(axis=1).mean())
