"""Shards of encoded records: the unit of work, and what a rerun finds done."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.artifact.files import rename_durably
from model.core.types import Frozen, HalfArray, RowArray
from model.data.selection import Selection

FORMAT = 1


class Rejected(Frozen):
    """A record that was skipped, and why."""

    row: int
    id: str
    source: str
    reason: str


class ShardSummary(Frozen):
    """What a finished shard holds."""

    n_images: int
    n_texts: int
    has_thumbnails: bool
    rejected: tuple[Rejected, ...]


@dataclass(frozen=True)
class ShardPlan:
    """Some records of a collection, and the key of all that their encoding depends on."""

    key: str
    selection: Selection


@dataclass(frozen=True)
class EncodedShard:
    """What became of a shard's records; record rows are those of the collection."""

    image_rows: RowArray  # (I,)
    images: HalfArray  # (I, D)
    thumbnails: tuple[bytes, ...]  # I, or none
    text_rows: RowArray  # (T,)
    texts: HalfArray  # (T, D)
    rejected: tuple[Rejected, ...]

    @property
    def summary(self) -> ShardSummary:
        """What this shard holds."""
        return ShardSummary(
            n_images=len(self.image_rows),
            n_texts=len(self.text_rows),
            has_thumbnails=any(self.thumbnails),
            rejected=self.rejected,
        )

    def save(self, path: Path) -> None:
        """Write one npz file."""
        listed = json.dumps([one.model_dump() for one in self.rejected]).encode()
        np.savez(
            path,
            image_rows=self.image_rows,
            images=self.images,
            thumbnail_lengths=np.array([len(one) for one in self.thumbnails], dtype=np.int64),
            thumbnail_bytes=np.frombuffer(b"".join(self.thumbnails), dtype=np.uint8),
            text_rows=self.text_rows,
            texts=self.texts,
            rejected=np.frombuffer(listed, dtype=np.uint8),
        )

    @classmethod
    def load(cls, path: Path) -> "EncodedShard":
        """A shard from its file."""
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        return cls(
            image_rows=parts["image_rows"],
            images=parts["images"],
            thumbnails=tuple(_split(parts["thumbnail_bytes"], parts["thumbnail_lengths"])),
            text_rows=parts["text_rows"],
            texts=parts["texts"],
            rejected=_rejected(parts["rejected"].tobytes()),
        )


class ShardStore:
    """Finished shards by key; a name appears only when its file is whole."""

    def __init__(self, directory: Path) -> None:
        """`directory` is the builder's own."""
        self.directory = directory

    def path(self, plan: ShardPlan) -> Path:
        """Where the shard lies when it is done."""
        return self.directory / f"{plan.key}.npz"

    def summary(self, plan: ShardPlan) -> ShardSummary | None:
        """What a finished shard holds; None where the shard is still to do."""
        try:
            shard = self.load(plan)  # reads all of it, against the file's own checksums
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        return shard.summary

    def load(self, plan: ShardPlan) -> EncodedShard:
        """A finished shard."""
        return EncodedShard.load(self.path(plan))

    def save(self, plan: ShardPlan, shard: EncodedShard) -> ShardSummary:
        """Record a shard as done."""
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".{plan.key}.partial.npz"
        shard.save(temporary)
        rename_durably(temporary, self.path(plan))
        return shard.summary


def shard_key(*parts: object) -> str:
    """One name for everything that a shard depends on, all of it sayable in JSON."""
    text = json.dumps([FORMAT, *parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _split(
    joined: np.ndarray[tuple[int], np.dtype[np.uint8]], lengths: RowArray
) -> Iterator[bytes]:
    ends = np.cumsum(lengths)
    for start, end in zip(ends - lengths, ends, strict=True):
        yield joined[start:end].tobytes()


def _rejected(listed: bytes) -> tuple[Rejected, ...]:
    return tuple(Rejected.model_validate(one) for one in json.loads(listed))
