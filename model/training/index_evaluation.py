"""Recalls of a built index: the artifact's own cascade, bank and weights, as it is served."""

from collections.abc import Callable, Sequence
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
from model.training.embedding import embed_pairs
from model.training.evaluation import (
    Embedded,
    Evaluation,
    base_recalls,
    cascade_over,
    kept_shares,
    recalls,
    reference_recalls,
    stage_one,
)
from model.training.pairs import Pairs


def evaluate_index(
    root: Path,
    pairs: Pairs,
    budget_of: Callable[[CandidateBudget], CandidateBudget],
    cache: Path,
    device: str,
) -> Evaluation:
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
    split = _in_gallery_order(artifact, pairs, embed_pairs(encoder, pairs, cache))
    encoded = perf_counter()
    served = Cascade.from_artifact(artifact, device=device)
    own = artifact.manifest.bank.source == OWN_BANK
    heads, weights = artifact.heads, artifact.manifest.stage_two
    transductive = served if own else cascade_over(split, heads, weights, None, served.pairs)
    protocols = {
        "transductive": recalls(transductive, split, budget),
        "inductive": None if own else recalls(served, split, budget),
    }
    kept = stage_one(served, split, budget)
    return Evaluation(
        base=base_recalls(split),
        reference=reference_recalls(split, kept),
        cascade=protocols["inductive"] or protocols["transductive"] or base_recalls(split),
        protocols=protocols,
        kept=kept_shares(split, kept),
        seconds={"encode": encoded - began, "evaluate": perf_counter() - encoded},
    )


def _in_gallery_order(
    artifact: Artifact, pairs: Pairs, embeddings: dict[Modality, NDArray[np.float32]]
) -> Embedded:
    """The split with its images and captions in the order of the gallery's rows."""
    records = pairs.collection.records
    image_ids = [records[row].id for row in pairs.image_rows]
    owners = pairs.collection.caption_record
    firsts = np.searchsorted(owners, owners[pairs.text_rows])
    text_ids = [
        f"{records[owners[row]].id}#{row - first}"
        for row, first in zip(pairs.text_rows, firsts, strict=True)
    ]
    images = _rows(artifact, Modality.IMAGE, image_ids)
    texts = _rows(artifact, Modality.TEXT, text_ids)
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
