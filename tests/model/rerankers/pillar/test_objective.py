import math

import pytest
import torch

from model.rerankers.pillar.objective import (
    alignment_loss,
    contrastive_loss,
    floor_loss,
    triplet_loss,
)

SCORES = torch.tensor([[1.0, 0.8, 0.7, -0.2], [1.0, 0.9, 0.3, 0.1]])
POSITIVE = torch.tensor([[True, False, True, False], [True, False, False, False]])


def test_contrastive_loss_by_hand() -> None:
    def soft(*scores: float) -> float:
        return sum(math.exp(score / 2) for score in scores)

    first = -math.log(soft(1.0, 0.7) / soft(1.0, 0.8, 0.7, -0.2))
    second = -math.log(soft(1.0) / soft(1.0, 0.9, 0.3, 0.1))
    assert contrastive_loss(SCORES, POSITIVE).item() == pytest.approx((first + second) / 2)


def test_triplet_loss_counts_negatives_within_the_margin_of_the_lowest_positive() -> None:
    first = 0.2 + 0.8 - 0.7  # -0.2 is far below 0.7
    second = 0.2 + 0.9 - 1.0  # no candidate is true: the query's own token is the positive
    assert triplet_loss(SCORES, POSITIVE).item() == pytest.approx((first + second) / 2)


def test_the_hinge_keeps_scores_above_the_lowest_similarity() -> None:
    similarities = torch.tensor([[1.0, 0.75, 0.9, 0.8], [1.0, 0.2, 0.3, 0.2]])
    first = (0.75 - 0.7) + (0.75 + 0.2)
    second = 0.2 - 0.1
    assert floor_loss(SCORES, similarities).item() == pytest.approx((first + second) / 2)


def test_alignment_is_the_divergence_of_two_softmaxes() -> None:
    mapped = torch.tensor([[0.5, 0.1, 0.4, 0.2], [0.3, 0.9, -0.6, 0.1]])
    target, found = SCORES.softmax(dim=1), mapped.softmax(dim=1)
    expected = sum(
        p * math.log(p / q)
        for p, q in zip(target.flatten().tolist(), found.flatten().tolist(), strict=True)
    )
    assert alignment_loss(SCORES, mapped).item() == pytest.approx(expected / 2, rel=1e-5)
    assert alignment_loss(SCORES, SCORES + 3.0).item() == pytest.approx(0.0, abs=1e-6)
