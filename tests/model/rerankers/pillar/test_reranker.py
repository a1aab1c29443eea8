from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.core.errors import CheckpointError
from model.core.types import Direction
from model.core.vectors import l2_normalised
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.lists import Surroundings
from model.rerankers.pillar.neighbours import PillarSide, nearest
from model.rerankers.pillar.reranker import PILLAR_FILE, PillarReranker

CONFIG = PillarConfig(width=16, heads=2, pillars=12, neighbours=4, list_image_to_text=8)


def world(seed: int = 0, dtype: type[np.floating] = np.float32) -> tuple[np.ndarray, PillarSide]:
    rng = np.random.default_rng(seed)
    queries, items, background = (
        l2_normalised(rng.standard_normal((n, 8)).astype(np.float32)) for n in (40, 30, 40)
    )
    return queries, PillarSide.of(items.astype(dtype), background.astype(dtype), CONFIG.neighbours)


def around(queries: np.ndarray, side: PillarSide, shortlist: int = 7) -> Surroundings:
    inter = nearest(queries, side.candidates, CONFIG.pillars - 1).rows
    intra = nearest(queries, side.background, CONFIG.pillars - 1).rows
    return Surroundings(inter[:, :shortlist], inter, intra)


def scores_of(reranker: PillarReranker, direction: Direction) -> np.ndarray:
    queries, side = world()
    return reranker.scores(direction, queries, around(queries, side), side)


def test_a_reranker_comes_back_from_its_file(tmp_path: Path) -> None:
    written = PillarReranker.untrained(CONFIG, seed=3, trained_on="made-up pairs")
    written.save(tmp_path / PILLAR_FILE)
    read = PillarReranker.load(tmp_path / PILLAR_FILE)
    assert (read.config, read.trained_on) == (CONFIG, "made-up pairs")
    for direction in Direction:
        np.testing.assert_array_equal(scores_of(read, direction), scores_of(written, direction))
    one, two = (scores_of(read, direction) for direction in Direction)
    assert np.abs(one - two).max() > 1e-3


def test_scores_do_not_depend_on_who_shares_the_batch() -> None:
    reranker = PillarReranker.untrained(CONFIG, seed=0)
    queries, side = world()
    together = scores_of(reranker, Direction.TEXT_TO_IMAGE)
    for place in range(len(queries)):
        alone = queries[place : place + 1]
        scores = reranker.scores(Direction.TEXT_TO_IMAGE, alone, around(alone, side), side)
        np.testing.assert_allclose(scores[0], together[place], atol=1e-5)


def test_stored_halves_change_scores_by_their_rounding_alone() -> None:
    reranker = PillarReranker.untrained(CONFIG, seed=0)
    queries, side = world()
    _, halves = world(dtype=np.float16)
    found = [
        reranker.scores(Direction.IMAGE_TO_TEXT, queries, around(queries, side), s)
        for s in (side, halves)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=2e-2)


def test_a_halved_copy_scores_nearly_alike_and_leaves_the_original_whole() -> None:
    reranker = PillarReranker.untrained(CONFIG, seed=0)
    before = scores_of(reranker, Direction.IMAGE_TO_TEXT)
    halved = reranker.halved()
    np.testing.assert_allclose(scores_of(halved, Direction.IMAGE_TO_TEXT), before, atol=3e-2)
    assert next(halved.networks[Direction.IMAGE_TO_TEXT].parameters()).dtype == torch.bfloat16
    np.testing.assert_array_equal(scores_of(reranker, Direction.IMAGE_TO_TEXT), before)


def break_file(path: Path, how: str) -> None:
    tensors, config = load_file(path), {"config": CONFIG.model_dump_json()}
    match how:
        case "missing":
            path.unlink()
        case "torn":
            path.write_bytes(path.read_bytes()[:100])
        case "no config":
            save_file(tensors, path)
        case "bad config":
            save_file(tensors, path, {"config": '{"width": 10, "heads": 3}'})
        case "lost weight":
            del tensors["image-to-text.projection.bias"]
            save_file(tensors, path, config)
        case "wrong shape":
            tensors["text-to-image.projection.bias"] = torch.zeros(3)
            save_file(tensors, path, config)


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("missing", "No such file"),
        ("torn", "header"),
        ("no config", "'config'"),
        ("bad config", "width 10 into equal parts, got 3"),
        ("lost weight", "projection.bias"),
        ("wrong shape", r"projection.bias.*\[3\]"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(tmp_path: Path, how: str, rule: str) -> None:
    path = tmp_path / PILLAR_FILE
    PillarReranker.untrained(CONFIG, seed=0).save(path)
    break_file(path, how)
    with pytest.raises(CheckpointError, match=rf"(?s){PILLAR_FILE} holds no pillar.*{rule}"):
        PillarReranker.load(path)
