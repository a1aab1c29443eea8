"""Galleries cut from a train split, embedded by encoders that have not seen them.

Whatever learns from similarities has to see those of pairs that are new to the encoder: those it
was trained on look better than a service will ever meet.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from model.core.errors import DataFormatError
from model.core.types import Modality
from model.data.open import open_collection
from model.data.selection import BANK_SIZE
from model.encoders.opening import named_device
from model.encoders.vse import TEXT, VISION
from model.training.cache import fingerprint
from model.training.embedded import Embedded
from model.training.embedder import Embedder
from model.training.memory import keep_freed_memory
from model.training.options import VSEOptions
from model.training.pairs import Pairs
from model.training.recipe import cache_of
from model.training.record import TrainingRecord
from model.training.vse_run import BIGRU, VSERun
from model.training.vse_training import embed


@dataclass(frozen=True)
class Fold:
    """A gallery with its captions, and the bank of pairs beside it, by an encoder new to it."""

    gallery: Embedded
    bank: Embedded


@dataclass(frozen=True)
class _Cut:
    """The pairs of one fold: what an encoder learns from, its bank, and what it never sees."""

    index: int
    train: Pairs
    bank: Pairs
    gallery: Pairs


def cross_fitted(
    checkpoint: Path, data: str, folds: int, fold_images: int, seed: int, device: str
) -> Iterator[Fold]:
    """The folds of the train split of `data`, one after another.

    A VSE is trained anew for each fold as the checkpoint was. Any other encoder, which was not
    trained on this split here, is taken as it is.

    Raises:
        CheckpointError: there is no checkpoint to open.
        DataFormatError: there are fewer images than two a fold.
    """
    record = TrainingRecord.read(checkpoint)
    whole = Pairs.of(open_collection(data, "train"))
    if len(whole.image_rows) < 2 * folds:
        raise DataFormatError(
            f"{folds} folds need {2 * folds} images or more, {data}:train has "
            f"{len(whole.image_rows)}"
        )
    cuts = list(_cuts(whole, folds, fold_images, seed))
    if record is None or record.vse is None:
        embedder = Embedder.open(checkpoint, device)
        return (Fold(embedder.embedded(cut.gallery), embedder.embedded(cut.bank)) for cut in cuts)
    run = _as_before(checkpoint, record.vse, record.backbone_trained, whole, named_device(device))
    return (_refitted(run, cut, len(cuts)) for cut in cuts)


def _cuts(whole: Pairs, folds: int, fold_images: int, seed: int) -> Iterator[_Cut]:
    """A bank leaves out what is held out, and only that."""
    for index, (train, held) in enumerate(whole.folds(folds, seed)):
        images = len(held.image_rows)
        gallery = held if images <= fold_images else held.hold_out(fold_images / images, seed)[1]
        bank = Pairs.sampled(whole.collection, BANK_SIZE, seed, held.image_rows)
        yield _Cut(index, train, bank, gallery)


def _as_before(
    checkpoint: Path,
    options: VSEOptions,
    backbone_trained: bool,
    whole: Pairs,
    device: torch.device,
) -> VSERun:
    """A run with the inputs that the checkpoint's own had."""
    keep_freed_memory()
    cache, text, vision = cache_of(checkpoint), checkpoint / TEXT, checkpoint / VISION
    if backbone_trained:
        vision = _untrained(vision, cache / "untrained-vision")
    return VSERun.of(
        whole,
        cache,
        str(text) if text.exists() else BIGRU,
        str(vision) if vision.exists() else None,
        options,
        device,
    )


def _untrained(vision: Path, target: Path) -> Path:
    """A backbone's folder without its weights, which have seen the whole train split."""
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(vision, target, ignore=ignored, dirs_exist_ok=True)
    return target


def _refitted(run: VSERun, cut: _Cut, folds: int) -> Fold:
    """A fold by a VSE of its own; one that was finished before is read from the cache."""
    collection, rows = cut.train.collection, (cut.train.image_rows, cut.bank.text_rows)
    key = fingerprint(
        collection, run.digest, *(r.tolist() for r in (*rows, cut.gallery.image_rows))
    )
    path = run.cache / f"fold-{cut.index}-{key}.npz"
    if not path.exists():
        unseen = f"{len(cut.gallery.image_rows)} images"
        tqdm.write(f"encoder {cut.index + 1} of {folds}, which does not see {unseen}")
        _write_fold(path, run, cut)
    return _read_fold(path, cut)


def _write_fold(path: Path, run: VSERun, cut: _Cut) -> None:
    name = f"fold-{cut.index}"
    trained, _, _ = run.fit(name, cut.train, cut.gallery)
    arrays = {
        f"{part}-{modality}": values
        for part, pairs in (("gallery", cut.gallery), ("bank", cut.bank))
        for modality, values in embed(trained, run.features(pairs), run.device).items()
    }
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)
    run.clear(name)


def _read_fold(path: Path, cut: _Cut) -> Fold:
    with np.load(path, allow_pickle=False) as arrays:
        gallery, bank = (
            {modality: arrays[f"{part}-{modality}"] for modality in Modality}
            for part in ("gallery", "bank")
        )
    return Fold(
        Embedded(gallery, cut.gallery.image_of_text), Embedded(bank, cut.bank.image_of_text)
    )
