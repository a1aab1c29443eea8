"""The simple rules that Stage II is compared with, as scores of whole matrices.

Each is a small value with its setting; `scores` gives (Q, N), higher = better. They are here to be
compared with, and are not served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.evidence import NEAREST, NEIGHBOURS, Evidence, log_sum_exp
from benchmarks.reciprocal import jaccard
from model.core.types import FloatArray
from model.rerankers.reference import DEPTH


class Rule(Protocol):
    """A way to score every candidate for every query."""

    def scores(self, seen: Evidence) -> FloatArray:
        """Scores (Q, N), higher = better."""


@dataclass(frozen=True)
class Cosine:
    """The base."""

    def scores(self, seen: Evidence) -> FloatArray:
        """The cosine as it is."""
        return seen.cosines


@dataclass(frozen=True)
class ReferenceRule:
    """MEET's released rule: the top `depth` by reverse rank, the rest stays (`reference.py`).

    Reverse ranks here count all of the bank, not the z best.
    """

    depth: int = DEPTH

    def scores(self, seen: Evidence) -> FloatArray:
        """Minus the place in the order."""
        order = np.argsort(-seen.cosines, axis=1, kind="stable")
        top = order[:, : self.depth]
        moved = np.argsort(
            np.take_along_axis(seen.reverse_ranks, top, axis=1), axis=1, kind="stable"
        )
        order[:, : self.depth] = np.take_along_axis(top, moved, axis=1)
        scores = np.empty(order.shape, np.float32)
        places = np.arange(order.shape[1], dtype=np.float32)
        np.put_along_axis(scores, order, -places[None], axis=1)
        return scores


@dataclass(frozen=True)
class CSLS:
    """Cross-domain similarity local scaling (Conneau et al., Word translation, ICLR 2018, §2.3).

    2·cos less the mean of the candidate's k highest; the query's own mean orders nothing.
    """

    k: int = 10

    def scores(self, seen: Evidence) -> FloatArray:
        """2·cosine less the candidate's mean neighbourhood."""
        return np.asarray(2 * seen.cosines - seen.nearest[:, : self.k].mean(axis=1))


@dataclass(frozen=True)
class InvertedSoftmax:
    """Inverted softmax (Smith et al., Offline bilingual word vectors, ICLR 2017, §2.3).

    exp(β·cos) over its sum across the bank, as a logarithm over β. `top` of the bank's entries
    count, 0 for all.
    """

    beta: float = 20.0
    top: int = 0

    def scores(self, seen: Evidence) -> FloatArray:
        """Cosine less the candidate's normaliser."""
        return seen.cosines - normaliser(seen, self.beta, self.top)


@dataclass(frozen=True)
class QBNorm:
    """Dynamic inverted softmax (Bogolin et al., Querybank Normalisation, CVPR 2022, §3.3).

    A query is normalised where its nearest candidate is some bank entry's nearest too. Where the
    bank is the queries themselves that is all of them, and the rule is the inverted softmax.
    """

    beta: float = 20.0

    def scores(self, seen: Evidence) -> FloatArray:
        """Inverted softmax of the queries in question, the cosine of the others."""
        activated = seen.activated[seen.cosines.argmax(axis=1)]
        return np.where(
            activated[:, None], seen.cosines - normaliser(seen, self.beta), seen.cosines
        )


@dataclass(frozen=True)
class DualSoftmax:
    """Dual softmax (Cheng et al., CAMoE, 2021, §3.3): cos times its softmax across the queries.

    β = 100 is what video retrieval uses at inference. In the bank's place stand the queries.
    """

    beta: float = 100.0

    def scores(self, seen: Evidence) -> FloatArray:
        """Cosine times its prior; in double precision, for priors go down to exp(-2β)."""
        cosines = seen.cosines.astype(np.float64)
        sums = seen.log_sums[self.beta].astype(np.float64)
        return np.asarray(cosines * np.exp(self.beta * cosines - sums))


@dataclass(frozen=True)
class SoftmaxProduct:
    """The product of both directions' softmaxes (Sun et al., LoFTR, CVPR 2021, §3.3).

    As a logarithm over β; the query's own sum orders nothing. β = 10 is LoFTR's.
    """

    beta: float = 10.0

    def scores(self, seen: Evidence) -> FloatArray:
        """2·cosine less the candidate's normaliser."""
        return 2 * seen.cosines - normaliser(seen, self.beta)


@dataclass(frozen=True)
class KReciprocal:
    """k-reciprocal encoding (Zhong et al., Re-ranking person re-identification, CVPR 2017).

    What was adapted to two modalities stands in `reciprocal.py`.
    """

    k_1: int = 20
    k_2: int = 6
    weight: float = 0.3

    def scores(self, seen: Evidence) -> FloatArray:
        """Minus the mixture of Jaccard and cosine distance (equation 12)."""
        key = (self.k_1, self.k_2)
        if key not in seen.memo:
            seen.memo[key] = jaccard(seen, *key)
        mixed: FloatArray = (1 - self.weight) * seen.memo[key] + self.weight * (1 - seen.cosines)
        return -mixed


@dataclass(frozen=True)
class PairExpansion:
    """Cosine and the candidate's cosine to the partners of the query's nearest bank entries."""

    neighbours: int = 5
    weight: float = 0.2

    def scores(self, seen: Evidence) -> FloatArray:
        """Cosine + weight · expansion."""
        return seen.cosines + self.weight * seen.sought.expansions[self.neighbours]


@dataclass(frozen=True)
class ExpandedSoftmax:
    """Pair expansion on top of the inverted softmax, the best of the rules known by hand."""

    neighbours: int = 5
    weight: float = 0.2
    beta: float = 10.0
    top: int = NEAREST

    def scores(self, seen: Evidence) -> FloatArray:
        """Inverted softmax + weight · expansion."""
        normalised = seen.cosines - normaliser(seen, self.beta, self.top)
        return normalised + self.weight * seen.sought.expansions[self.neighbours]


def normaliser(seen: Evidence, beta: float, top: int = 0) -> FloatArray:
    """Normalisers log Σ exp(β·cosine) / β (N,): all of the bank, or a candidate's `top` nearest."""
    sums = log_sum_exp(beta * seen.nearest[:, :top]) if top else seen.log_sums[beta]
    return np.asarray(sums / np.float32(beta))


class Family(NamedTuple):
    """A rule at its usual settings, and the short grid of others that it may choose from."""

    name: str
    usual: Sequence[Rule]
    grid: Sequence[Rule] = ()


_BETAS = (5.0, 10.0, 20.0, 30.0, 40.0, 50.0)
_WEIGHTS = (0.1, 0.2, 0.4)

FAMILIES = (
    Family("cosine", [Cosine()]),
    Family("reference rule", [ReferenceRule()], [ReferenceRule(d) for d in (5, 10, 15, 30, 100)]),
    Family("CSLS", [CSLS()], [CSLS(k) for k in (5, 10, 20, 50, 100, 500)]),
    Family(
        "inverted softmax",
        [InvertedSoftmax()],
        [InvertedSoftmax(*one) for one in product(_BETAS, (0, NEAREST))],
    ),
    Family("QB-Norm, dynamic", [QBNorm()], [QBNorm(beta) for beta in _BETAS]),
    Family("dual softmax", [DualSoftmax()], [DualSoftmax(b) for b in (*_BETAS, 100.0)]),
    Family("dual softmax, product", [SoftmaxProduct()], [SoftmaxProduct(b) for b in _BETAS]),
    Family(
        "k-reciprocal",
        [KReciprocal()],
        [KReciprocal(*one) for one in product((10, 20), (1, 6), (0.3, 0.6, 0.8, 0.9, 0.95))],
    ),
    Family(
        "cosine + pair expansion",
        [PairExpansion(k) for k in NEIGHBOURS],
        [PairExpansion(*one) for one in product(NEIGHBOURS, _WEIGHTS)],
    ),
    Family(
        "inverted softmax + pair expansion",
        [ExpandedSoftmax(k) for k in NEIGHBOURS],
        [
            ExpandedSoftmax(*one)
            for one in product(NEIGHBOURS, _WEIGHTS, (5.0, 10.0, 20.0, 30.0), (0, NEAREST))
        ],
    ),
)


def setting(rule: Rule) -> str:
    """The setting of a rule in words, empty where it has none."""
    values: Mapping[str, Any] = asdict(rule)  # type: ignore[call-overload]
    return ", ".join(f"{_SYMBOLS.get(name, name)} {_shown(name, v)}" for name, v in values.items())


_SYMBOLS: Mapping[str, str] = {"beta": "β", "k_1": "k1", "k_2": "k2"}


def _shown(name: str, value: float) -> str:
    return "all" if name == "top" and value == 0 else f"{value:g}"
