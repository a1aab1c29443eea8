"""What passes between the stages of a build, and what each of them works with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from index_builder.options import BuildOptions
from index_builder.shards import ShardStore
from model.artifact.items import NO_ROW
from model.artifact.writer import ArtifactWriter
from model.checkpoint import Checkpoint
from model.core.closing import Closing
from model.core.types import HalfArray, Modality, RowArray
from model.encoders.protocols import Encoder
from model.progress import bar


class Placed:
    """Where each record (N,) went: its image row, its first text row (-1: none), its texts."""

    def __init__(self, n_records: int) -> None:
        """No record is placed yet."""
        self.image_row = np.full(n_records, NO_ROW, dtype=np.int64)
        self.first_text = np.full(n_records, NO_ROW, dtype=np.int64)
        self.n_texts = np.zeros(n_records, dtype=np.int64)
        self._next_image = self._next_text = 0

    def settle(self, image_records: RowArray, text_records: RowArray) -> None:
        """Give the next rows to a shard's images and texts, both by ascending record."""
        self.image_row[image_records] = self._next_image + np.arange(len(image_records))
        records, first, count = np.unique(text_records, return_index=True, return_counts=True)
        self.first_text[records] = self._next_text + first
        self.n_texts[records] = count
        self._next_image += len(image_records)
        self._next_text += len(text_records)

    def of(self, record: int) -> tuple[int, int, int]:
        """Image row, first text row and number of texts of a record."""
        return int(self.image_row[record]), int(self.first_text[record]), int(self.n_texts[record])


@dataclass(frozen=True)
class Bank:
    """The background of both modalities, and the records that its entries come from."""

    source: str
    embeddings: dict[Modality, HalfArray]  # (B, D), none of them empty
    image_records: RowArray
    text_records: RowArray

    @property
    def partner(self) -> RowArray:
        """Image row (T,) of the bank for each of its texts, -1 where it has none."""
        at = np.searchsorted(self.image_records, self.text_records)
        known = np.append(self.image_records, NO_ROW)  # one past the end finds no record
        return np.where(known[at] == self.text_records, at, NO_ROW).astype(np.int64)


class Progress(Closing):
    """Counts what is done; shown as a bar while the block lasts."""

    def __init__(self, name: str, total: int, unit: str, *, shown: bool) -> None:
        """Start at nothing."""
        self._bar = bar(desc=name, total=total, unit=f" {unit}", disable=not shown)

    def __call__(self, count: int) -> None:
        """So many more are done."""
        self._bar.update(count)

    def skip(self, count: int) -> None:
        """So many need not be done: they do not count into the rate."""
        if not self._bar.disable:
            self._bar.initial += count
        self._bar.update(count)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


@dataclass(frozen=True)
class Tools:
    """What every stage works with."""

    options: BuildOptions
    checkpoint: Checkpoint
    shards: ShardStore
    writer: ArtifactWriter
    show_progress: bool

    @property
    def encoder(self) -> Encoder:
        """The encoder of this build."""
        return self.checkpoint.encoder

    def bar(self, name: str, total: int, unit: str) -> Progress:
        """A progress bar with rate and time left, on stderr."""
        return Progress(name, total, unit, shown=self.show_progress)


class Clock:
    """Seconds spent in each stage."""

    def __init__(self) -> None:
        """Nothing spent yet."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        began = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - began, 3)
