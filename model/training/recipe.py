"""Whole training runs: from a data set on disk to a checkpoint directory."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from model.checkpoint import HEADS_FILE, STAGE_TWO_FILE
from model.core.errors import DataFormatError, InputError
from model.core.metrics import Recalls, ranks_of_pairs
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.data.open import open_collection
from model.data.records import Collection
from model.encoders.opening import (
    ENCODER_FILE,
    EncoderFile,
    open_encoder,
    read_encoder_file,
    save_snapshot,
    write_encoder_file,
)
from model.encoders.protocols import Encoder, EncoderKind
from model.encoders.transformer_files import resolve
from model.heads.heads import Heads
from model.training.calibration import calibrate
from model.training.embedded import Embedded
from model.training.embedding import embed_pairs
from model.training.heads_training import train_heads
from model.training.memory import keep_freed_memory
from model.training.options import HeadsOptions, VSEOptions
from model.training.pairs import Pairs
from model.training.record import TrainingRecord
from model.training.vse_run import VSERun, save_encoder
from model.training.vse_training import embed

DEV_NAMES = ("dev", "val")
# Calibration looks at every pair of held-out images and captions: more would not fit in memory.
MOST_HELD_OUT = 2000
LIST_DEPTH = 128
Embeddings = Mapping[Modality, FloatArray]


@dataclass(frozen=True)
class Splits:
    """What a run learns from and shows its progress with.

    `whole` is the train split: what ships has seen all of it. `train` and `held_out` share it
    between an encoder that is used once, and what that encoder has not seen: Stage II's weights
    are calibrated there.
    """

    whole: Pairs
    train: Pairs
    held_out: Pairs
    dev: Pairs | None

    @classmethod
    def of(cls, data: str, held_out: float, seed: int) -> "Splits":
        """Splits of a data set: its `train`, a seeded share of it, and `dev` or `val` if there."""
        whole = Pairs.of(open_collection(data, "train"))
        share = min(held_out, MOST_HELD_OUT / len(whole.image_rows))
        train, held = whole.hold_out(share, seed)
        return cls(whole, train, held, _dev(data))


@dataclass(frozen=True)
class Calibration:
    """Held-out pairs beside a bank of pairs, from an encoder that has seen the bank alone."""

    held_out: Embedded
    bank: Embedded


def run_vse(
    data: str,
    out: Path,
    text: str,
    vision: str | None,
    options: VSEOptions,
    heads: HeadsOptions,
    device: torch.device,
) -> None:
    """Train a VSE with its heads and weights; everything it needs ends up in `out`."""
    heads.config(options.embedding_dim)  # refused now, not after an hour
    keep_freed_memory()
    splits, cache = Splits.of(data, options.held_out, options.seed), cache_of(out)
    with replacing(out) as target:
        run = VSERun.of(splits.whole, cache, text, vision, options, device)
        calibration = _calibration(run, splits)
        trained, config, whole = run.fit("whole", splits.whole, splits.dev)
        save_encoder(trained, config, target, out.name, text, vision, run.tower)
        embedded = embed(trained, whole, device)
        dev = None if splits.dev is None else embed(trained, run.features(splits.dev), device)
        record = TrainingRecord(
            vse=options,
            backbone_trained=run.backbone is not None and not run.frozen,
            heads=heads,
            data=Path(data).name,
        )
        _finish(splits, calibration, embedded, dev, target, heads, record)
    run.clear("rest", "whole")


def run_heads(
    data: str, out: Path, encoder: str, held_out: float, options: HeadsOptions, device: str
) -> None:
    """Train heads and weights for an encoder as it is; `out` holds a copy of it."""
    splits, cache = Splits.of(data, held_out, options.seed), cache_of(out)
    opened = open_encoder(encoder, device)
    options.config(opened.identity.embedding_dim)
    with replacing(out) as target:
        _copy_encoder(encoder, opened, target)
        parts = (splits.held_out, splits.train, splits.whole)
        held, bank, whole = (
            Embedded(embed_pairs(opened, pairs, cache), pairs.image_of_text) for pairs in parts
        )
        dev = None if splits.dev is None else embed_pairs(opened, splits.dev, cache)
        record = TrainingRecord(encoder=opened.identity.name, heads=options, data=Path(data).name)
        calibration = Calibration(held, bank)
        _finish(splits, calibration, whole.embeddings, dev, target, options, record)


def _calibration(run: VSERun, splits: Splits) -> Calibration:
    """Held-out embeddings of an encoder that is fitted to the rest, and used for this alone."""
    tqdm.write(f"an encoder that has not seen {len(splits.held_out.image_rows)} images")
    trained, _, train = run.fit("rest", splits.train, splits.held_out)
    held = embed(trained, run.features(splits.held_out), run.device)
    return Calibration(
        Embedded(held, splits.held_out.image_of_text),
        Embedded(embed(trained, train, run.device), splits.train.image_of_text),
    )


def cache_of(checkpoint: Path) -> Path:
    """Where extracted features are kept: beside the checkpoint."""
    return checkpoint.resolve().with_name(checkpoint.resolve().name + ".cache")


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A folder to fill that takes the place of `out` when all is there, and not before.

    Raises:
        InputError: `out` holds something else than a checkpoint.
    """
    if out.exists() and not (out / ENCODER_FILE).exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"--out is a new folder or a checkpoint to replace, got {out}")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _copy_encoder(source: str, opened: Encoder, target: Path) -> None:
    """A checkpoint's encoder as it stands, or a bare dual model in a folder of its own."""
    if read_encoder_file(resolve(source)) is not None:
        save_snapshot(source, target)
        return
    save_snapshot(source, target / EncoderKind.DUAL.value)
    write_encoder_file(target, EncoderFile(kind=EncoderKind.DUAL, name=opened.identity.name))


def _finish(
    splits: Splits,
    calibration: Calibration,
    train: Embeddings,
    dev: Embeddings | None,
    target: Path,
    options: HeadsOptions,
    record: TrainingRecord,
) -> None:
    """Heads, Stage II's weights, and a record of how they were made."""
    watch = None if dev is None or splits.dev is None else _watching(dev, splits.dev)
    heads = train_heads(train, splits.whole.image_of_text, options, watch)
    heads.save(target / HEADS_FILE)
    name = f"{len(splits.held_out.image_rows)} held-out images of {record.data}:train"
    tqdm.write(f"calibrating Stage II on {name}")
    stage_two = calibrate(calibration.held_out, calibration.bank, LIST_DEPTH, name)
    (target / STAGE_TWO_FILE).write_text(stage_two.model_dump_json(indent=2) + "\n")
    record.write(target)


def _watching(embedded: Embeddings, pairs: Pairs) -> Callable[[Heads], float]:
    """The rSum of some pairs in the hash space of heads."""

    def watch(heads: Heads) -> float:
        vectors = {m: l2_normalised(heads.hash_space(m, embedded[m])) for m in Modality}
        similarities = vectors[Modality.IMAGE] @ vectors[Modality.TEXT].T
        return Recalls.of(*ranks_of_pairs(similarities, pairs.image_of_text)).rsum

    return watch


def _dev(data: str) -> Pairs | None:
    """The dev split; a file or a pattern of shards is one split and has none."""
    for name in DEV_NAMES if Path(data).is_dir() else ():
        found = _open_if_there(data, name)
        if found is not None:
            return Pairs.of(found)
    return None


def _open_if_there(data: str, split: str) -> Collection | None:
    try:
        return open_collection(data, split)
    except DataFormatError as error:
        if "has no split" in str(error):
            return None
        raise
