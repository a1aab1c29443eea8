from pathlib import Path

import numpy as np
import pytest
import torch

from model.core.errors import CodeShapeError
from model.core.types import Direction
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.network import PillarNetwork

GOLDEN = Path(__file__).parents[3] / "golden" / "pillar.npz"
RELEASED = {
    "inter_norm": "ln",
    "intra_norm": "ln1",
    "projection": "topk_proj",
    "attention_norm": "norm1",
    "mlp_norm": "norm2",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}


def released_name(name: str) -> str:
    """The released code's name of a weight, as the golden file writes it."""
    for ours, theirs in RELEASED.items():
        name = name.replace(f"{ours}.", f"{theirs}.")
    return name.replace(".", "__")


def golden_network(arrays: dict[str, np.ndarray]) -> PillarNetwork:
    config = PillarConfig(width=48, heads=4, pillars=12, neighbours=4, list_image_to_text=8)
    network = PillarNetwork(config).eval()
    names = {name: released_name(name) for name in network.state_dict()}
    network.load_state_dict({n: torch.from_numpy(arrays[r]) for n, r in names.items()})
    weights = {name for name in arrays if "__" in name and "feature_align" not in name}
    assert set(names.values()) == weights
    return network


def test_the_forward_pass_is_the_released_codes() -> None:
    arrays = dict(np.load(GOLDEN, allow_pickle=False))
    network = golden_network(arrays)
    tokens, adjacency = torch.from_numpy(arrays["tokens"]), torch.from_numpy(arrays["adjacency"])
    with torch.inference_mode():
        refined = network(tokens, adjacency).numpy()
        scores = network.scores(tokens, adjacency).numpy()
    np.testing.assert_allclose(refined, arrays["refined"], atol=2e-6)
    np.testing.assert_allclose(scores[:, 1:], arrays["candidate_scores"], atol=2e-6)
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-6)


def test_the_released_sizes_are_the_defaults() -> None:
    config = PillarConfig()
    assert (config.width, config.blocks, config.heads, config.mlp_ratio) == (768, 2, 24, 4)
    assert (config.pillars, config.neighbours, config.threshold) == (64, 10, 0.8)
    assert config.shortlist(Direction.IMAGE_TO_TEXT) == 31
    assert config.shortlist(Direction.TEXT_TO_IMAGE) == 7


@pytest.mark.parametrize(
    ("sizes", "rule"),
    [
        ({"heads": 7}, "divide the width 768 into equal parts, got 7"),
        ({"pillars": 31}, "outnumber neighbours and the shortlist, got 31 for 10 and 31"),
        ({"neighbours": 64}, "outnumber neighbours and the shortlist, got 64 for 64 and 31"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], rule: str) -> None:
    with pytest.raises(CodeShapeError, match=rule):
        PillarConfig(**sizes)
