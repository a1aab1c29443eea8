"""Stage II's weights, learned on pairs that the encoder has not seen.

A conditional logit: the probability of a query's true candidates under a softmax over its best
ones, as a function of the very terms that a search computes. A handful of weights a direction,
so a few hundred held-out images are enough to tell them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.ann.selection import top_positions
from model.core.types import Direction, FloatArray, HalfArray, Modality
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.progress import bar
from model.rerankers.pairs import PairBank
from model.rerankers.relationship import hubness, rank_term
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_lists, reverse_ranks, valid_counts
from model.training.embedded import Embedded

TEMPERATURES = (0.05, 0.1)
CANDIDATES = 100
RIDGE = 1e-3
ITERATIONS = 100
# The terms in the order of their columns; hubness comes in one column a temperature, negated.
CONSISTENCY, RANK, PARTNERS, NEAREST, HUBNESS = range(5)
LISTS_ALONE = (CONSISTENCY, RANK)
WITH_PAIRS = (CONSISTENCY, RANK, PARTNERS, NEAREST)


@dataclass(frozen=True)
class Choices:
    """The terms (Q, C, columns) of every query's candidates, and which of them are true (Q, C)."""

    terms: Tensor
    true: Tensor


def calibrate(held_out: Embedded, bank: Embedded, z: int, calibrated_on: str) -> StageTwo:
    """Weights for held-out pairs against a bank of pairs that the encoder was trained on."""
    config = HeadsConfig(embedding_dim=bank.embeddings[Modality.IMAGE].shape[1])
    heads = fit_heads(config, bank.embeddings, 0)
    pairs = PairBank(bank.embeddings, bank.image_of_text, heads)
    given, own = (
        {d: _choices(d, held_out, lists_of, pairs, heads, z) for d in Direction}
        for lists_of in (bank, held_out)
    )
    return StageTwo(
        weights={d: fit_weights(one, LISTS_ALONE) for d, one in given.items()},
        with_pairs={d: fit_weights(one, WITH_PAIRS) for d, one in given.items()},
        own_bank={d: fit_weights(one, LISTS_ALONE) for d, one in own.items()},
        own_bank_with_pairs={d: fit_weights(one, WITH_PAIRS) for d, one in own.items()},
        calibrated_on=calibrated_on,
    )


def _choices(
    direction: Direction,
    held_out: Embedded,
    lists_of: Embedded,
    pairs: PairBank,
    heads: Heads,
    z: int,
) -> Choices:
    """Queries with a true candidate among their best by cosine, and the terms of these."""
    candidates = held_out.embeddings[direction.candidate]
    lists = reverse_lists(candidates, lists_of.embeddings[direction.query], z)
    hubs = np.stack([hubness(lists, tau) for tau in TEMPERATURES], axis=1)  # (N, temperatures)
    terms, true = [], []
    for query, own in zip(
        bar(held_out.embeddings[direction.query], desc=f"calibrating {direction}", leave=False),
        _true(direction, held_out),
        strict=True,
    ):
        cosines = candidates @ query
        rows = top_positions(cosines, np.arange(len(cosines)), CANDIDATES)
        if (hit := np.isin(rows, own)).any():
            expansion = pairs.expand(
                direction.query, query, heads.heads[direction.query].query_hash_space(query)
            )
            columns = [
                cosines[rows],
                _rank_terms(lists[rows], cosines[rows]),
                candidates[rows] @ expansion.partners,
                candidates[rows] @ expansion.nearest,
            ]
            terms.append(np.column_stack([*columns, -hubs[rows]]))
            true.append(hit)
    return Choices(torch.from_numpy(np.stack(terms)).double(), torch.from_numpy(np.stack(true)))


def _true(direction: Direction, pool: Embedded) -> Iterator[NDArray[np.integer]]:
    """The true candidates of every query."""
    if direction is Direction.TEXT_TO_IMAGE:
        return (np.array([owner]) for owner in pool.image_of_text)
    images = range(len(pool.embeddings[Modality.IMAGE]))
    return (np.flatnonzero(pool.image_of_text == image) for image in images)


def _rank_terms(lists: HalfArray, cosines: FloatArray) -> FloatArray:
    return rank_term(reverse_ranks(lists, cosines), valid_counts(lists))


def fit_weights(choices: Choices, columns: tuple[int, ...]) -> DirectionWeights:
    """The likeliest weights of some terms beside the hubness, at its likeliest temperature."""
    fits = [
        (*_logit(choices.terms[..., [*columns, HUBNESS + at]], choices.true), temperature)
        for at, temperature in enumerate(TEMPERATURES)
    ]
    _, found, temperature = min(fits, key=lambda fit: fit[0])
    weight = dict(zip([*columns, HUBNESS], found, strict=True))
    return DirectionWeights(
        consistency=weight[CONSISTENCY],
        complementarity=weight[RANK],
        hubness=weight[HUBNESS],
        temperature=temperature,
        expansion=weight.get(PARTNERS, 0.0),
        feedback=weight.get(NEAREST, 0.0),
    )


def _logit(terms: Tensor, true: Tensor) -> tuple[float, list[float]]:
    """The loss and the weights of terms (Q, C, n), the first of them scaled to one.

    The first, consistency, counts positively whatever the data say.
    """
    spread = (terms - terms.mean(dim=1, keepdim=True)).square().mean(dim=(0, 1)).sqrt()
    scaled = terms / spread.clamp_min(1e-9)
    free = torch.zeros(terms.shape[2], dtype=terms.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        scores = scaled @ _weights(free)
        own = scores.masked_fill(~true, float("-inf")).logsumexp(dim=1)
        value: Tensor = (scores.logsumexp(dim=1) - own).mean() + RIDGE * free.square().sum()
        return value

    def step() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(step)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        weights = _weights(free) / spread.clamp_min(1e-9)
        return float(loss()), (weights / weights[0]).tolist()


def _weights(free: Tensor) -> Tensor:
    return torch.cat([free[:1].exp(), free[1:]])
