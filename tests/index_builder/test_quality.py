"""Figures of a build against full similarity matrices."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index_builder.quality import measure
from model.cascade import Cascade, SearchOptions
from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import Direction, Modality
from tests.index_builder.conftest import CAPTIONS_EACH, Built


def test_base_recalls_are_those_of_the_full_matrix(vectors: Path, build: Built) -> None:
    artifact = build(vectors)
    images, texts = (artifact.side(m).embeddings.astype(np.float32) for m in Modality)
    owner = np.arange(len(texts)) // CAPTIONS_EACH
    wanted = Recalls.of(*ranks_of_pairs(images @ texts.T, owner))
    base: Any = measure(artifact)["base"]
    assert base["i2t"] == pytest.approx(list(wanted.i2t))
    assert base["t2i"] == pytest.approx(list(wanted.t2i))
    assert base["rsum"] == pytest.approx(wanted.rsum)


def test_cascade_recalls_are_those_of_its_answers(vectors: Path, build: Built) -> None:
    artifact = build(vectors)
    cascade, texts = Cascade.from_artifact(artifact), artifact.side(Modality.TEXT).embeddings
    answers = cascade.search(Direction.TEXT_TO_IMAGE, texts.astype(np.float32), SearchOptions(k=10))
    hits = [query // CAPTIONS_EACH in one.rows[:5] for query, one in enumerate(answers)]
    measured: Any = measure(artifact)["cascade"]
    assert measured["t2i"][1] == pytest.approx(100 * np.mean(hits))


def test_a_budget_that_keeps_all_loses_nothing(vectors: Path, build: Built) -> None:
    # 60 images are fewer than the 64 that are always kept; 120 texts are more.
    quality: Any = measure(build(vectors))
    for name in ("kept", "top10_kept"):
        stages = quality[name]
        assert stages["hash"]["t2i"] == stages["pq"]["t2i"] == 100.0
        assert stages["pq"]["i2t"] <= stages["hash"]["i2t"] <= 100.0


def test_a_sample_is_seeded(vectors: Path, build: Built) -> None:
    artifact = build(vectors)
    drawn = [measure(artifact, seed=seed, sample=7) for seed in (1, 1, 2)]
    assert drawn[0]["queries"] == {"i2t": 7, "t2i": 7}
    assert drawn[0] == drawn[1] != drawn[2]
