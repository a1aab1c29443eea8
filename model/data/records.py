"""What every layout is read into: records, and the collection that holds them in order."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from model.core.errors import DataFormatError
from model.core.types import Modality, RowArray
from model.data.rows import RowTable


class Layout(StrEnum):
    """How a collection lies on disk."""

    PRECOMP = "precomp"
    WEBDATASET = "webdataset"
    MANIFEST = "manifest"
    KARPATHY = "karpathy"
    IMAGES = "images"
    EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image's bytes are: a file, or a member inside an uncompressed tar."""

    path: Path
    offset: int = 0
    length: int | None = None

    def inside(self, folder: Path) -> "ImageRef | None":
        """The same with every link followed; None unless that is a file below the folder."""
        try:
            path = self.path.resolve(strict=True)
            if not path.is_relative_to(folder.resolve()) or not path.is_file():
                return None
        except (OSError, ValueError, RuntimeError):
            return None  # missing, no path at all, or links in a circle
        return replace(self, path=path)

    def read_bytes(self, at_most: int | None = None) -> bytes:
        """The image file's bytes, or its first `at_most`, so that a giant need not fit in memory.

        Raises:
            DataFormatError: the file is missing, unreadable or shorter than it was.
        """
        wanted = min((n for n in (self.length, at_most) if n is not None), default=-1)
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(wanted)
        except OSError as error:
            raise DataFormatError(f"{self.path} cannot be read: {error.strerror}") from error
        if self.length is not None and len(data) < wanted:
            raise DataFormatError(f"{self.path} ends inside the image at byte {self.offset}")
        return data


@dataclass(frozen=True, slots=True)
class Record:
    """An image with its captions; or captions alone, or an image alone."""

    id: str
    image: ImageRef | None
    captions: tuple[str, ...]
    metadata: Mapping[str, JsonValue]

    def caption_id(self, position: int) -> str:
        """The id of one of its captions."""
        return f"{self.id}#{position}"


class LazyRecords(Sequence[Record]):
    """Records that are made when asked for; ids and captions are known without making them."""

    def ids(self) -> list[str]:
        """The ids of all records."""
        raise NotImplementedError

    def captions(self) -> list[str]:
        """All captions, in order of records."""
        raise NotImplementedError

    def caption_counts(self) -> RowArray:
        """The number of captions of every record (N,)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Collection:
    """One split of a data set, or a gallery.

    `regions` (N, R, F) and the image embeddings (N, D) follow the order of records, the text
    embeddings (T, D) that of captions. All of them are views of the files.
    """

    name: str
    layout: Layout
    records: Sequence[Record]
    regions: RowTable | None = None
    embeddings: Mapping[Modality, RowTable] = field(default_factory=dict)

    @cached_property
    def captions(self) -> list[str]:
        """All captions (T), in order of records."""
        if isinstance(self.records, LazyRecords):
            return self.records.captions()
        return [caption for record in self.records for caption in record.captions]

    @cached_property
    def caption_record(self) -> RowArray:
        """The row (T,) of the record that each caption belongs to."""
        return np.repeat(np.arange(len(self.records), dtype=np.int64), self._caption_counts())

    @cached_property
    def image_rows(self) -> RowArray:
        """The rows, ascending, of the records with an image, regions or an image embedding."""
        if self.layout is Layout.EMBEDDINGS:
            count = len(self.records) if Modality.IMAGE in self.embeddings else 0
            return np.arange(count, dtype=np.int64)
        if self.regions is not None:
            return np.arange(len(self.records), dtype=np.int64)
        has_image = [record.image is not None for record in self.records]
        return np.flatnonzero(has_image).astype(np.int64)

    def _caption_counts(self) -> RowArray:
        if isinstance(self.records, LazyRecords):
            return self.records.caption_counts()
        return np.array([len(record.captions) for record in self.records], dtype=np.int64)


def check_ids(ids: Sequence[str], place: str) -> None:
    """Refuse ids that do not name one thing.

    Raises:
        DataFormatError: an id that stands twice, or is also the id of another record's caption.
    """
    known = set(ids)
    if len(known) < len(ids):
        repeated = next(a for a, b in itertools.pairwise(sorted(ids)) if a == b)
        raise DataFormatError(f"ids of {place} need to be unique, got {repeated!r} twice")
    if dots := [name for name in ids if name in {".", ".."}]:
        raise DataFormatError(f"ids of {place} name items in addresses, {dots[0]!r} cannot")
    for name in (name for name in known if "#" in name):
        owner, _, position = name.rpartition("#")
        if position.isdecimal() and owner in known:
            raise DataFormatError(f"{name!r} of {place} is the id of a caption of {owner!r}")
