"""Recalls of a built index: the artifact's own cascade, bank and weights, as it is served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from model.artifact.manifest import OWN_BANK
from model.artifact.reader import Artifact, open_artifact
from model.cascade import Cascade
from model.core.errors import InputError
from model.core.types import CandidateBudget, Modality, RowArray
from model.encoders.opening import open_encoder
from model.training.embedded import Embedded
from model.training.embedding import embed_pairs
from model.training.evaluation import Bank, Measured, cascade_over
from model.training.pairs import Pairs
from model.training.rankings import RankingName


@dataclass(frozen=True)
class MeasuredIndex:
    """A built index measured on its own split, and where that split's items stand in it."""

    measured: Measured
    budget: CandidateBudget
    bank: Bank
    image_rows: RowArray  # (N,), the gallery's row of each image of the split
    text_rows: RowArray  # (T,)
    seconds: dict[str, float]


def measure_index(
    root: Path,
    pairs: Pairs,
    budget_of: Callable[[CandidateBudget], CandidateBudget],
    cache: Path,
    device: str,
) -> MeasuredIndex:
    """Every measure of a gallery that was built from the split itself.

    Queries are encoded anew, as the server encodes them; the cascade is the artifact's, under
    the protocol that its bank stands for.

    Raises:
        InputError: the index and the split do not hold the same items.
    """
    began = perf_counter()
    artifact = open_artifact(root)
    budget = budget_of(artifact.manifest.budget)
    encoder = open_encoder(artifact.encoder_source, device)
    images, texts = _gallery_rows(artifact, pairs)
    split = _in_gallery_order(pairs, embed_pairs(encoder, pairs, cache), images, texts)
    encoded = perf_counter()
    measured = Measured.of(split, _cascades(artifact, split, device), budget)
    seconds = {"encode": encoded - began, "evaluate": perf_counter() - encoded}
    return MeasuredIndex(measured, budget, artifact.banks, images, texts, seconds)


def _cascades(artifact: Artifact, split: Embedded, device: str) -> dict[RankingName, Cascade]:
    """The artifact's own cascade last; before it one over the split, where its bank is another."""
    served = Cascade.from_artifact(artifact, device=device)
    if artifact.manifest.bank.source == OWN_BANK:
        return {RankingName.TRANSDUCTIVE: served}
    own = cascade_over(
        split, artifact.heads, artifact.manifest.stage_two, None, served.second.pairs
    )
    return {RankingName.TRANSDUCTIVE: own, RankingName.INDUCTIVE: served}


def _gallery_rows(artifact: Artifact, pairs: Pairs) -> tuple[RowArray, RowArray]:
    """The gallery's rows of the split's images (N,) and captions (T,)."""
    records = pairs.collection.records
    image_ids = [records[row].id for row in pairs.image_rows]
    owners = pairs.collection.caption_record[pairs.text_rows]
    text_ids = [
        records[owner].caption_id(position)
        for owner, position in zip(owners, pairs.text_positions.tolist(), strict=True)
    ]
    return (
        _rows(artifact, Modality.IMAGE, image_ids),
        _rows(artifact, Modality.TEXT, text_ids),
    )


def _in_gallery_order(
    pairs: Pairs,
    embeddings: dict[Modality, NDArray[np.float32]],
    images: RowArray,
    texts: RowArray,
) -> Embedded:
    """The split with its images and captions in the order of the gallery's rows."""
    ordered = {
        Modality.IMAGE: _placed(embeddings[Modality.IMAGE], images),
        Modality.TEXT: _placed(embeddings[Modality.TEXT], texts),
    }
    image_of_text = np.empty(len(texts), np.int64)
    image_of_text[texts] = images[pairs.image_of_text]
    return Embedded(ordered, image_of_text)


def _rows(artifact: Artifact, modality: Modality, ids: Sequence[str]) -> RowArray:
    side = artifact.side(modality)
    if len(ids) != len(side):
        raise InputError(
            f"the split and the index must hold the same {modality} items: "
            f"{len(ids)} against {len(side)}"
        )
    found = [side.items.row(item_id) for item_id in ids]
    missing = [item_id for item_id, row in zip(ids, found, strict=True) if row is None]
    if missing:
        raise InputError(f"the index must hold every item of the split, {missing[0]!r} is missing")
    return np.array(found, np.int64)


def _placed(embeddings: NDArray[np.float32], rows: RowArray) -> NDArray[np.float32]:
    placed = np.empty_like(embeddings)
    placed[rows] = embeddings
    return placed
