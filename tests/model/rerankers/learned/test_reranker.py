from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.core.errors import CheckpointError
from model.rerankers.learned.network import LearnedConfig
from model.rerankers.learned.reranker import CASES, LEARNED_FILE, LearnedReranker
from model.rerankers.learned.terms import N_TERMS


def random_reranker(width: int = 8, candidates: int = 12) -> LearnedReranker:
    """Networks that disagree with each other and with the order of their lists."""
    config = LearnedConfig(width=width, candidates=candidates)
    made = LearnedReranker.untrained(config, "made-up pairs")
    torch.manual_seed(4)
    for network in made.networks.values():
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return LearnedReranker(config, made.networks, made.trained_on, gain=1.25)


def terms(length: int = 9) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((length, N_TERMS)).astype(np.float32)


def test_a_reranker_comes_back_from_its_file(tmp_path: Path) -> None:
    written = random_reranker()
    written.save(tmp_path / LEARNED_FILE)
    read = LearnedReranker.load(tmp_path / LEARNED_FILE)
    assert (read.config, read.trained_on, read.gain) == (written.config, "made-up pairs", 1.25)
    scores = [read.scores(case, terms()) for case in CASES]
    for case, found in zip(CASES, scores, strict=True):
        np.testing.assert_array_equal(found, written.scores(case, terms()))
    assert min(np.abs(a - b).max() for i, a in enumerate(scores) for b in scores[:i]) > 1e-2


@pytest.mark.parametrize("broken", ["not a file", "a tensor short", "no metadata"])
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, broken: str) -> None:
    path = tmp_path / LEARNED_FILE
    random_reranker().save(path)
    match broken:
        case "not a file":
            path.write_bytes(b"nothing")
        case "a tensor short":
            tensors = load_file(path)
            tensors.pop(next(iter(tensors)))
            save_file(tensors, path, {"config": LearnedConfig().model_dump_json(), "gain": "0"})
        case _:
            save_file(load_file(path), path)
    with pytest.raises(CheckpointError, match="holds no learned re-ranker"):
        LearnedReranker.load(path)
