"""A collection to encode, and keys that change when anything in it does."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index_builder.shards import ShardPlan, shard_key
from model.core.types import Modality, RowArray
from model.data.files import storable
from model.data.open import open_collection
from model.data.records import Collection, Record
from model.data.selection import Selection

WHOLE_BYTES = 32 << 20
NO_ENCODER = "none"
Look = Callable[[Path], str]  # what a file is like, without reading it


@dataclass(frozen=True)
class Source:
    """A collection and the folder that it lies in."""

    place: str
    root: Path
    collection: Collection

    @classmethod
    def open(cls, place: str) -> "Source":
        """The collection of a place (`PATH` or `PATH:SPLIT`).

        Raises:
            DataFormatError: no such place, no known layout, nothing in it, or no UTF-8 name.
        """
        return cls(place, storable(_root(place)), open_collection(place))

    def shards(self, selection: Selection, size: int, *context: object) -> list[ShardPlan]:
        """The selection in parts of `size` records; `context` is what else their encoding needs."""
        parts = (selection.part(at, at + size) for at in range(0, len(selection), size))
        look = cache(_stat)  # a tar of many images is asked once, and again by the next plan
        return [ShardPlan(shard_key(self._state(part, look), *context), part) for part in parts]

    def _state(self, part: Selection, look: Look) -> str:
        """Changes with the records, their files and their arrays."""
        digest = hashlib.sha256()
        taken = zip(
            part.rows.tolist(), part.with_image.tolist(), part.n_captions.tolist(), strict=True
        )
        for record, (row, with_image, count) in zip(self.records(part.rows), taken, strict=True):
            state = _record_state(record, look if with_image else None)
            digest.update(json.dumps([row, count, state]).encode())
        for table in self._tables(part):
            digest.update(np.ascontiguousarray(table).data)
        return digest.hexdigest()

    def _tables(self, part: Selection) -> Iterator[NDArray[np.floating]]:
        collection = self.collection
        if collection.regions is not None:
            yield collection.regions[part.rows]
        if Modality.IMAGE in collection.embeddings:
            yield collection.embeddings[Modality.IMAGE][part.rows]
        if Modality.TEXT in collection.embeddings:
            yield collection.embeddings[Modality.TEXT][self.caption_rows(part)]

    def records(self, rows: RowArray) -> Sequence[Record]:
        """The records of rows, ascending; neighbours are read together."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            return self.collection.records[int(rows[0]) : int(rows[-1]) + 1]
        return [self.collection.records[row] for row in rows.tolist()]

    def caption_rows(self, part: Selection) -> RowArray:
        """Rows (T,), in order of all captions, of the captions selected."""
        starts = np.searchsorted(self.collection.caption_record, part.rows)
        return ranges(starts, part.n_captions)


def ranges(starts: RowArray, counts: RowArray) -> RowArray:
    """`start, start + 1, …` for every start, one behind the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()), dtype=np.int64)


def encoder_key(source: str) -> str:
    """Changes with the encoder's files; read without opening it where it is a folder."""
    directory = Path(source)
    if source == NO_ENCODER:
        return NO_ENCODER
    if not directory.is_dir():
        from model.encoders.opening import open_encoder

        return open_encoder(source).identity.digest
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    digest = hashlib.sha256(str(directory.name).encode())
    for path in files:
        digest.update(f"{path.relative_to(directory)} {_file_state(path)}\n".encode())
    return digest.hexdigest()


def _file_state(path: Path) -> str:
    state = path.stat()
    if state.st_size <= WHOLE_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{state.st_size} {state.st_mtime_ns}"


def _record_state(record: Record, look: Look | None) -> list[object]:
    image = record.image
    place = None if image is None else [str(image.path), image.offset, image.length]
    state = "" if image is None or look is None else look(image.path)
    return [record.id, record.captions, dict(record.metadata), place, state]


def _stat(path: Path) -> str:
    """Size and time of a file."""
    try:
        state = path.stat()
    except OSError:
        return "missing"
    return f"{state.st_size} {state.st_mtime_ns}"


def _root(place: str) -> Path:
    """The folder of a place, which may end in `:SPLIT`."""
    path = Path(place)
    if not path.exists() and ":" in place:
        path = Path(place.rpartition(":")[0])
    return (path if path.is_dir() else path.parent).absolute()
