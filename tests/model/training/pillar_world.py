"""A split whose captions betray their siblings: what re-ranking can learn is to average them."""

import numpy as np

from model.core.types import Modality
from model.core.vectors import l2_normalised
from model.training.embedded import Embedded


def sibling_split(seed: int, images: int = 100, noise: float = 0.3) -> Embedded:
    """Images, and five noisy captions each that share a code no image has."""
    rng = np.random.default_rng(seed)
    content, code = (
        l2_normalised(rng.standard_normal((images, 12)).astype(np.float32)) for _ in range(2)
    )
    owners = np.repeat(np.arange(images), 5)
    said = content[owners] + noise * rng.standard_normal((len(owners), 12))
    texts = np.concatenate([said, 1.5 * code[owners]], axis=1).astype(np.float32)
    image = np.concatenate([content, np.zeros_like(code)], axis=1)
    return Embedded({Modality.IMAGE: image, Modality.TEXT: l2_normalised(texts)}, owners)


def halves(split: Embedded) -> Embedded:
    """The split at the precision that an artifact stores, as float32."""
    stored = {m: e.astype(np.float16).astype(np.float32) for m, e in split.embeddings.items()}
    return Embedded(stored, split.image_of_text)
