"""Records over Arrow columns: a million items open at once and are made when asked for.

An item's id is its `id`, `key` or `image_path`, else its row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.core.errors import DataFormatError
from model.core.types import RowArray
from model.data.files import inside
from model.data.records import ImageRef, LazyRecords, Record
from model.data.values import json_value

_BATCH = 4096
_ID_COLUMNS = ("id", "key", "image_path", "path")
_PATH_COLUMNS = ("image_path", "path")
_CAPTION_COLUMNS = ("captions", "caption")
_OWN_COLUMNS = {"id", *_CAPTION_COLUMNS}


@dataclass(frozen=True, eq=False)
class ArrowRecords(LazyRecords):
    """Columns of N rows: ids, captions (a list each), image paths, and the metadata."""

    folder: Path
    id_column: pa.Array
    caption_column: pa.LargeListArray
    path_column: pa.Array | None
    metadata: pa.Table | None

    def __len__(self) -> int:
        return len(self.id_column)

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> list[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | list[Record]:
        if isinstance(row, slice):
            start, stop, step = row.indices(len(self))
            if step == 1:
                return self._made(start, max(0, stop - start))
            return [self[one] for one in range(start, stop, step)]
        if not -len(self) <= row < len(self):
            raise IndexError(f"rows lie in 0 to {len(self) - 1}, got {row}")
        return self._made(row % len(self), 1)[0]

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), _BATCH):
            yield from self._made(start, _BATCH)

    def ids(self) -> list[str]:
        """The ids of all records."""
        return list(self.id_column.to_pylist())

    def captions(self) -> list[str]:
        """All captions, in order of records."""
        return list(self.caption_column.flatten().to_pylist())

    def caption_counts(self) -> RowArray:
        """The number of captions of every record (N,)."""
        counts: RowArray = np.diff(self.caption_column.offsets.to_numpy())
        return counts

    def _made(self, start: int, count: int) -> list[Record]:
        """The records of some rows; a batch reads each column once."""
        ids = self.id_column.slice(start, count).to_pylist()
        captions = self.caption_column.slice(start, count).to_pylist()
        metadata = _rows(self.metadata, start, count) or [{}] * len(ids)
        paths = _rows(self.path_column, start, count) or [None] * len(ids)
        return [
            Record(
                name,
                self._image(path),
                tuple(texts),
                {key: json_value(value) for key, value in about.items()},
            )
            for name, path, texts, about in zip(ids, paths, captions, metadata, strict=True)
        ]

    def _image(self, path: str | None) -> ImageRef | None:
        """The image, where it lies in the folder: the vectors are enough without it."""
        try:
            if path is None or not (self.folder / path).is_file():
                return None
            return ImageRef(inside(self.folder, path, "an item"))
        except (DataFormatError, OSError):
            return None


def _rows(columns: pa.Table | pa.Array | None, start: int, count: int) -> list[Any]:
    return [] if columns is None else list(columns.slice(start, count).to_pylist())


def records_from(
    items: pa.Table | None, folder: Path, n_items: int, n_texts: int | None
) -> ArrowRecords:
    """The records of a table with a row an item; `n_texts` where each text has its embedding.

    Raises:
        DataFormatError: texts that are not UTF-8, or captions that do not fit their embeddings.
    """
    table = pa.table({"row": pa.nulls(n_items)}).drop_columns("row") if items is None else items
    try:
        captions = _captions(table, n_items, n_texts, folder)
        ids = _ids(table, n_items)
        paths = _texts(_column(table, _PATH_COLUMNS))
    except pa.ArrowException as error:
        raise DataFormatError(
            f"{folder} has items that are not as they need be: {error}"
        ) from error
    return ArrowRecords(folder, ids, captions, paths, _metadata(table))


def _ids(table: pa.Table, n_items: int) -> pa.Array:
    """Ids (N) from the first column that has one in every row."""
    for name in _ID_COLUMNS:
        if name in table.column_names and not table[name].null_count:
            return _texts(table[name])
    return pa.array([f"row-{row}" for row in range(n_items)], pa.large_string())


def _captions(
    table: pa.Table, n_items: int, n_texts: int | None, folder: Path
) -> pa.LargeListArray:
    """A list of captions an item; without a caption column, as many nameless ones as needed."""
    column = _column(table, _CAPTION_COLUMNS)
    if column is None:
        texts, counts = _nameless(n_items, n_texts or 0)
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts, counts = _single(column, keep_empty=n_texts is not None)
    else:
        texts = _texts(pc.list_flatten(column))
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    if n_texts is not None and len(texts) != n_texts:
        rule = f"{folder} needs a caption for each of {n_texts} text embeddings"
        raise DataFormatError(f"{rule}, got {len(texts)}")
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]))
    return pa.LargeListArray.from_arrays(offsets, texts)


def _nameless(n_items: int, n_texts: int) -> tuple[pa.Array, RowArray]:
    """Empty captions, as many for every item."""
    each = n_texts // max(1, n_items)
    texts = pa.array([""] * (each * n_items), pa.large_string())
    return texts, np.full(n_items, each, dtype=np.int64)


def _single(column: pa.ChunkedArray, *, keep_empty: bool) -> tuple[pa.Array, RowArray]:
    """One caption an item; an empty one is none, unless an embedding stands for it."""
    texts = pc.fill_null(_texts(column), "")
    present = np.ones(len(texts), dtype=bool)
    if not keep_empty:
        present = pc.not_equal(pc.utf8_trim_whitespace(texts), "").to_numpy(zero_copy_only=False)
    return texts.filter(pa.array(present)), present.astype(np.int64)


def _texts(column: pa.ChunkedArray | pa.Array | None) -> pa.Array | None:
    """The column as one array of valid UTF-8."""
    if column is None:
        return None
    texts = column.cast(pa.large_string())
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts.validate(full=True)
    return texts


def _column(table: pa.Table, names: tuple[str, ...]) -> pa.ChunkedArray | None:
    return next((table[name] for name in names if name in table.column_names), None)


def _metadata(table: pa.Table) -> pa.Table | None:
    """The other columns, where there are any."""
    others = table.drop_columns([name for name in table.column_names if name in _OWN_COLUMNS])
    return others if others.num_columns else None
