"""What the learned re-ranker learns from: lists of terms, just as a search would see them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from model.ann.halves import widened
from model.ann.selection import top_positions
from model.core.types import CandidateBudget, FloatArray, HalfArray, Modality, RowArray
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.progress import bar
from model.rerankers.learned.reranker import CASES, Case
from model.rerankers.learned.terms import N_TERMS, list_terms
from model.rerankers.relationship import PairCosines, relationship
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists
from model.training.cross_fit import Fold
from model.training.evaluation import LIST_DEPTH, contexts_of, pair_bank

BLOCK = 256
ASKED = 1 + len(PairCosines.__dataclass_fields__)  # of a query's views: itself and these
CUT_OFFS = (1, 5, 10)
Views = Mapping[Modality, FloatArray]


@dataclass(frozen=True)
class TermLists:
    """Every query's list in its order by relationship; a short list is filled with what is dead."""

    terms: Float[Tensor, "lists candidates terms"]
    true: Bool[Tensor, "lists candidates"]
    live: Bool[Tensor, "lists candidates"]

    @classmethod
    def joined(cls, parts: "list[TermLists]") -> "TermLists":
        """The lists of several galleries."""
        return cls(
            torch.cat([part.terms for part in parts]),
            torch.cat([part.true for part in parts]),
            torch.cat([part.live for part in parts]),
        )

    def __getitem__(self, rows: Tensor | slice) -> "TermLists":
        """Some of the lists, by position, slice or mask."""
        return TermLists(self.terms[rows], self.true[rows], self.live[rows])

    def recall(self, scores: Float[Tensor, "lists candidates"] | None = None) -> float:
        """R@1 + R@5 + R@10 in percent, in the lists' order or by scores."""
        true = self.true
        if scores is not None:
            order = scores.argsort(dim=1, descending=True, stable=True)
            true = true.gather(1, order)
        return sum(100 * float(true[:, :k].any(dim=1).float().mean()) for k in CUT_OFFS)


def lists_of_fold(fold: Fold, stage_two: StageTwo, candidates: int) -> dict[Case, TermLists]:
    """Lists of the queries of a fold's gallery, for every network."""
    dim = fold.bank.embeddings[Modality.IMAGE].shape[1]
    heads = fit_heads(HeadsConfig(embedding_dim=dim), fold.bank.embeddings, 0)
    contexts = contexts_of(fold.gallery, heads, pair_bank(fold.bank, heads))
    views = {m: _views(fold.gallery.embeddings[m], context) for m, context in contexts.items()}
    return {case: _lists(case, fold, views, stage_two, candidates) for case in CASES}


def _views(embeddings: FloatArray, contexts: HalfArray) -> FloatArray:
    """Items and what the bank says of them (N, 4, D), at the precision of an index."""
    items = embeddings.astype(np.float16)[:, None]
    return widened(np.concatenate([items, contexts], axis=1))


def _lists(case: Case, fold: Fold, views: Views, stage_two: StageTwo, candidates: int) -> TermLists:
    direction = case.direction
    queries, items = views[direction.query], views[direction.candidate]
    over = (fold.gallery if case.own_bank else fold.bank).embeddings[direction.query]
    lists = reverse_lists(items[:, 0].astype(np.float16), over.astype(np.float16), LIST_DEPTH)
    weights = stage_two.of(direction, own_bank=case.own_bank, pairs=True)
    depth = min(candidates, len(items))
    terms = np.zeros((len(queries), candidates, N_TERMS), np.float32)
    rows = np.zeros((len(queries), depth), np.int64)
    ranked = _ranked(queries, items, lists, weights, depth)
    for place, best in enumerate(
        bar(ranked, desc=f"lists {case}", total=len(queries), leave=False)
    ):
        rows[place] = best
        terms[place, :depth] = list_terms(queries[place], items[best], lists[best])
    true = np.zeros((len(queries), candidates), np.bool_)
    true[:, :depth] = fold.gallery.one_way(direction).true(rows)
    live = np.broadcast_to(np.arange(candidates) < depth, true.shape).copy()
    return TermLists(torch.from_numpy(terms), torch.from_numpy(true), torch.from_numpy(live))


def _ranked(
    queries: FloatArray,
    items: FloatArray,
    lists: HalfArray,
    weights: DirectionWeights,
    depth: int,
) -> Iterator[RowArray]:
    """Each query's best rows (depth,) by relationship among its nearest by cosine.

    As many of these as Stage I keeps of a gallery.
    """
    kept = max(depth, CandidateBudget(at_least=1).counts(len(items))[1])
    vectors, every = np.ascontiguousarray(items[:, 0]), np.arange(len(items))
    for start in range(0, len(queries), BLOCK):
        asked = queries[start : start + BLOCK, :ASKED]
        block = asked.reshape(-1, vectors.shape[1]) @ vectors.T  # (B · 3, N)
        for cosines, *pairs in block.reshape(*asked.shape[:2], -1):
            rows = top_positions(cosines, every, kept)
            found = PairCosines(*(of[rows] for of in pairs))
            related = relationship(cosines[rows], lists[rows], weights, found)
            yield rows[top_positions(related.scores, rows, depth)]
