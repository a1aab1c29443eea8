from pathlib import Path

import numpy as np
import pytest
import torch

from model.encoders.external_attention import ExternalAttention, ResidualProjection

GOLDEN = Path(__file__).parents[2] / "golden" / "external_attention.npz"
NAMES = {
    "linear": "fc",
    "hidden": "mlp__layers__0",
    "out": "mlp__layers__1",
    "norm": "mlp__bns__0",
}


def test_embeddings_agree_with_the_papers_code() -> None:
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN, allow_pickle=False).items()}
    regions = golden["regions"]
    projection, attention = ResidualProjection(48, 32).eval(), ExternalAttention(32).eval()
    state = {
        f"{ours}.{key.split('__')[-1]}": value
        for ours, theirs in NAMES.items()
        for key, value in golden.items()
        if key.startswith(theirs)
    }
    projection.load_state_dict(state)
    attention.memory.load_state_dict(
        {"weight": golden["linear1__weight"], "bias": golden["linear1__bias"]}
    )
    valid = torch.ones(regions.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        embeddings = attention(projection(regions.flatten(0, 1)), valid)
    assert embeddings.numpy() == pytest.approx(golden["embeddings"].numpy(), abs=1e-6)


def test_places_that_are_not_valid_change_nothing() -> None:
    torch.manual_seed(3)
    attention = ExternalAttention(8)
    rows = torch.randn(5, 8)
    alone = attention(rows[:2], torch.ones(1, 2, dtype=torch.bool))
    among = attention(rows, torch.tensor([[True, False, True], [True, True, True]]))
    assert torch.allclose(alone[0], among[0], atol=1e-6)


def test_an_untrained_memory_of_zeros_is_the_mean_over_regions() -> None:
    attention = ExternalAttention(4)
    torch.nn.init.zeros_(attention.memory.weight)
    torch.nn.init.zeros_(attention.memory.bias)
    rows = torch.tensor([[1.0, 0, 0, 0], [0, 3.0, 0, 0]])
    found = attention(rows, torch.ones(1, 2, dtype=torch.bool))
    assert torch.allclose(found, torch.tensor([[0.1**0.5, 0.9**0.5, 0, 0]]))
