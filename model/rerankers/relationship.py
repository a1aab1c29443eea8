"""Relationship re-ranking: consistency and complementarity (MEET, Stage II).

Consistency is the cosine of query and candidate. Complementarity comes from the candidate's
reverse list, its highest cosines to the bank of the query's modality: how it ranks the query
among them, and how near it is to everything (hubness, as in inverted softmax).

    score = a·consistency + b·(1 - log(1 + r) / log(1 + z)) - c·hubness + d·expansion + e·feedback

The last two come from a bank of pairs (`pairs.py`), where there is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.ann.halves import widened
from model.core.types import FloatArray, HalfArray, RankArray
from model.rerankers.weights import DirectionWeights as DirectionWeights
from model.rerankers.weights import StageTwo as StageTwo
from model.reverse_lists.compute import PADDING, reverse_ranks, valid_counts


@dataclass(frozen=True)
class PairCosines:
    """Cosines (C,) of candidates with a query's expansion."""

    partners: FloatArray
    nearest: FloatArray


@dataclass(frozen=True)
class Relationship:
    """Candidates under Stage II, every array (..., C)."""

    reverse_rank: RankArray
    complementarity: FloatArray
    expansion: FloatArray
    scores: FloatArray

    @classmethod
    def joined(cls, parts: Sequence["Relationship"]) -> "Relationship":
        """Several stretches of candidates as one."""
        if len(parts) == 1:
            return parts[0]
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*(np.concatenate(column, axis=-1) for column in columns))

    def at(self, query: int) -> "Relationship":
        """One query's candidates (C,)."""
        return Relationship(*(getattr(self, field.name)[query] for field in fields(self)))

    def of(self, n_queries: int) -> "Relationship":
        """The same candidates (Q·C,) query by query (Q, C)."""
        shape = n_queries, len(self.scores) // n_queries
        return Relationship(
            self.reverse_rank.reshape(shape),
            self.complementarity.reshape(shape),
            self.expansion.reshape(shape),
            self.scores.reshape(shape),
        )


def rank_term(ranks: RankArray, entries: NDArray[np.integer] | int) -> FloatArray:
    """1 - log(1 + r) / log(1 + z') in [0, 1] of ranks (C,): 1 for the best rank, 0 at the end.

    z' is the number of entries a list really has (all of z where the bank is large enough); a
    list without entries says nothing and gives 0.
    """
    spread = np.log1p(np.maximum(entries, 1))
    term = 1.0 - np.log1p(np.minimum(ranks, entries)) / spread
    return np.where(np.asarray(entries) > 0, term, 0.0).astype(np.float32)


def _rank_terms(ranks: RankArray, lists: NDArray[np.floating]) -> FloatArray:
    """`rank_term` of ranks (C,) in lists (C, z), looked up where every list is full."""
    entries, depth = valid_counts(lists), lists.shape[1]
    if entries.min(initial=depth) < depth:
        return rank_term(ranks, entries)
    return _terms_of_full_lists(depth).take(ranks)


@cache
def _terms_of_full_lists(depth: int) -> FloatArray:
    """The terms (z + 1,) of every rank in a list of z entries."""
    return rank_term(np.arange(depth + 1, dtype=np.int32), depth)


def hubness(lists: NDArray[np.floating], temperature: float) -> FloatArray:
    """τ·log mean exp(list / τ) (C,) over the entries of lists (C, z), 0 without entries.

    A mean, not a sum: it lies between the mean and the highest of the entries, so weights
    calibrated with one bank or depth hold for another. Padding is no entry.
    """
    values = widened(lists)
    entries = valid_counts(values)
    highest = values[:, :1]  # lists are descending
    weights = values - highest
    weights /= np.float32(temperature)
    np.exp(weights, out=weights)
    # Padding underflows to 0 only at low temperatures: mask it.
    if entries.min(initial=values.shape[1]) < values.shape[1]:
        weights *= values > PADDING
    mean = weights.sum(axis=1) / np.maximum(entries, 1)
    soft = highest[:, 0] + temperature * np.log(np.maximum(mean, np.finfo(np.float32).tiny))
    return np.where(entries > 0, soft, 0.0).astype(np.float32)


def relationship(
    cosines: FloatArray,
    lists: HalfArray,
    weights: DirectionWeights,
    pairs: PairCosines | None = None,
    hubs: FloatArray | None = None,
) -> Relationship:
    """Scores, higher = better, of candidates with cosines (C,) and reverse lists (C, z).

    Their hubness (C,) is computed where it is not at hand.
    """
    near = hubness(lists, weights.temperature) if hubs is None else hubs
    ranks = reverse_ranks(lists, cosines)
    complementarity = weights.complementarity * _rank_terms(ranks, lists)
    complementarity -= np.float32(weights.hubness) * near
    expansion = np.zeros_like(complementarity)
    if pairs is not None:
        expansion += np.float32(weights.expansion) * pairs.partners
        expansion += np.float32(weights.feedback) * pairs.nearest
    scores = np.float32(weights.consistency) * cosines + complementarity + expansion
    return Relationship(
        ranks, complementarity.astype(np.float32), expansion, scores.astype(np.float32)
    )
