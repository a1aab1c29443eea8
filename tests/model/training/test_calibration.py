"""Calibration finds the weights that made the choices, and says at which temperature."""

import pytest
import torch

from model.training.calibration import (
    LISTS_ALONE,
    TEMPERATURES,
    WITH_PAIRS,
    Choices,
    fit_weights,
)


def drawn(weights: list[float], n_queries: int = 4000) -> Choices:
    """Choices among ten candidates, drawn from a conditional logit with these weights."""
    torch.manual_seed(0)
    terms = torch.randn(n_queries, 10, len(weights), dtype=torch.float64)
    odds = torch.softmax(terms @ torch.tensor(weights, dtype=torch.float64), dim=1)
    chosen = torch.multinomial(odds, 1)
    return Choices(terms, torch.zeros(n_queries, 10, dtype=torch.bool).scatter(1, chosen, 1))


@pytest.mark.parametrize("at", range(len(TEMPERATURES)))
def test_the_temperature_that_is_stored_is_the_one_that_was_fitted(at: int) -> None:
    hubs = [2.0 if at == place else 0.0 for place in range(len(TEMPERATURES))]
    found = fit_weights(drawn([2.0, 0.5, 1.0, 0.0, *hubs]), WITH_PAIRS)
    assert found.temperature == TEMPERATURES[at]
    assert found.consistency == 1.0
    assert found.complementarity == pytest.approx(0.25, abs=0.05)
    assert found.expansion == pytest.approx(0.5, abs=0.05)
    assert found.feedback == pytest.approx(0.0, abs=0.05)
    assert found.hubness == pytest.approx(1.0, abs=0.05)


def test_without_pairs_their_terms_weigh_nothing() -> None:
    found = fit_weights(drawn([2.0, 0.5, 3.0, 3.0, 0.0, 2.0]), LISTS_ALONE)
    assert (found.expansion, found.feedback) == (0.0, 0.0)
    assert found.hubness > 0.5
