"""A data set small enough to train on in a test: words that name what the regions hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np

TOPICS = ["dog", "cat", "boat", "tree", "car", "bird", "house", "child"]
REGIONS, WIDTH = 4, 12


def write_precomp(directory: Path, *, images: int = 60, dev: int = 16, seed: int = 0) -> Path:
    """Images of two topics each; every caption names both."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    meaning = rng.standard_normal((len(TOPICS), WIDTH))
    for split, count in (("train", images), ("dev", dev)):
        topics = np.stack([rng.permutation(len(TOPICS))[:2] for _ in range(count)])
        regions = meaning[topics[:, [0, 1, 0, 1]]] + 0.3 * rng.standard_normal(
            (count, REGIONS, WIDTH)
        )
        np.save(directory / f"{split}_ims.npy", regions.astype(np.float16))
        frames = ["{} and {}", "a {} by a {}", "one {} , one {}", "{} near {}", "some {} with {}"]
        captions = [
            frame.format(TOPICS[a], TOPICS[b]) for a, b in topics.tolist() for frame in frames
        ]
        (directory / f"{split}_caps.txt").write_text("\n".join(captions) + "\n")
    return directory


def json_of(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text)
    return parsed
