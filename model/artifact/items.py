"""Items of one modality in an Arrow file that is mapped, never loaded; ids found by hash."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import JsonValue

from model.artifact.files import map_array, save_npy
from model.artifact.layout import SideLayout
from model.core.closing import Closing
from model.core.errors import ArtifactError
from model.core.types import Modality, RowArray
from model.data.records import ImageRef

NO_ROW = -1

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("caption", pa.string()),
        ("partner", pa.int64()),
        ("first_caption", pa.int64()),
        ("n_captions", pa.int64()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("metadata", pa.string()),
    ]
)


@dataclass(frozen=True)
class Item:
    """One image or one caption of the gallery.

    `partner` is the image row of a caption, -1 where there is none; `first_caption` and
    `n_captions` are the text rows of an image. `image` is the source, as it lay at build time.
    """

    id: str
    modality: Modality
    row: int
    caption: str | None = None
    partner: int = NO_ROW
    first_caption: int = NO_ROW
    n_captions: int = 0
    image: ImageRef | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def caption_rows(self) -> range:
        """Text rows of this image's captions."""
        return range(self.first_caption, self.first_caption + self.n_captions)


class Shown(NamedTuple):
    """What a hit shows of an item, an `Item`'s fields; `pictured`: it has a source."""

    id: str
    caption: str | None
    partner: int
    metadata: Mapping[str, JsonValue]
    pictured: bool


class ItemsWriter(Closing):
    """Writes `items.arrow` batch by batch, then the id table."""

    def __init__(self, layout: SideLayout, root: Path) -> None:
        """Sources below `root` are written relative to it, so that a gallery may move."""
        layout.directory.mkdir(parents=True, exist_ok=True)
        self._layout = layout
        self._root = root.absolute()
        self._hashes: list[NDArray[np.uint64]] = []
        self._writer = pa.ipc.new_file(str(layout.items), SCHEMA)

    def append(self, items: Sequence[Item]) -> None:
        """Add items; their rows are the order of appending."""
        if not items:
            return
        rows = [_to_columns(item, self._root) for item in items]
        self._writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
        hashes = (id_hash(item.id) for item in items)
        self._hashes.append(np.fromiter(hashes, np.uint64, len(items)))

    def close(self) -> None:
        """Close the Arrow file and write the id table."""
        self._writer.close()
        self._write_id_table()

    def give_up(self) -> None:
        """Close the Arrow file."""
        self._writer.close()

    def _write_id_table(self) -> None:
        hashes = np.concatenate([*self._hashes, np.empty(0, np.uint64)])
        order = np.argsort(hashes, kind="stable")
        save_npy(self._layout.id_hashes, hashes[order])
        save_npy(self._layout.id_rows, order.astype(np.int64))


class ItemTable:
    """Items by row and by id, from mapped files."""

    def __init__(self, modality: Modality, layout: SideLayout, root: Path) -> None:
        """Map the files of one side; relative sources lie below `root`.

        Raises:
            ArtifactError: no Arrow file, other columns, or an id table of another length.
        """
        self.modality = modality
        self._root = root
        self._table = _map_table(layout.items)
        self._columns = {name: self._table.column(name) for name in SCHEMA.names}
        # Plain memory: an array's single values cost more, to look for one or to take it out.
        self._hashes = map_array(layout.id_hashes, (len(self._table),), np.uint64).data
        self._rows = map_array(layout.id_rows, (len(self._table),), np.int64).data

    def __len__(self) -> int:
        """N."""
        return len(self._table)

    def __getitem__(self, row: int) -> Item:
        """The item of a row.

        Raises:
            IndexError: no such row.
        """
        self._require(row)
        columns = {name: column[row].as_py() for name, column in self._columns.items()}
        return _from_columns(columns, self.modality, row, self._root)

    def shown(self, row: int) -> Shown:
        """What hits show of the item of a row: a few of its columns, and no path.

        Raises:
            IndexError: no such row.
        """
        self._require(row)
        columns = self._columns
        metadata = columns["metadata"][row].as_py()
        return Shown(
            self.id(row),
            columns["caption"][row].as_py(),
            columns["partner"][row].as_py(),
            json.loads(metadata) if metadata else {},
            columns["path"][row].is_valid,
        )

    def id(self, row: int) -> str:
        """The id of a row."""
        return str(self._columns["id"][int(row)].as_py())

    def row(self, item_id: str) -> int | None:
        """The row of an id, None where there is no such item."""
        wanted = id_hash(item_id)
        for at in range(bisect_left(self._hashes, wanted), len(self._hashes)):
            if self._hashes[at] != wanted:
                return None
            if self.id(self._rows[at]) == item_id:
                return self._rows[at]
        return None

    @property
    def metadata(self) -> pa.ChunkedArray:
        """Every item's metadata (N,) as a JSON text, null where there is none."""
        return self._columns["metadata"]

    def partners(self) -> tuple[RowArray, RowArray]:
        """First row (N,) and number (N,) of each item's partners in the other modality."""
        if self.modality is Modality.IMAGE:
            return self._integers("first_caption"), self._integers("n_captions")
        first = self._integers("partner")
        return first, (first != NO_ROW).astype(np.int64)

    def partners_of(self, row: int) -> range:
        """Rows of the other modality that belong to the item of a row."""
        if self.modality is Modality.IMAGE:
            first, count = (self._columns[n][row].as_py() for n in ("first_caption", "n_captions"))
            return range(first, first + count)
        partner = self._columns["partner"][row].as_py()
        return range(partner, partner + (partner != NO_ROW))

    def _require(self, row: int) -> None:
        if not 0 <= row < len(self):
            raise IndexError(f"{self.modality} row {row} is outside 0..{len(self) - 1}")

    def _integers(self, name: str) -> RowArray:
        return np.asarray(self._columns[name].to_numpy(), dtype=np.int64)


def id_hash(item_id: str) -> int:
    """A 64-bit hash of an id; equal ids have equal hashes on every machine."""
    return int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little")


def _map_table(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise ArtifactError(f"{path} is no Arrow file: {error}") from error
    if table.schema != SCHEMA:
        raise ArtifactError(f"{path} should have columns {SCHEMA.names}, has {table.column_names}")
    return table


def _to_columns(item: Item, root: Path) -> dict[str, object]:
    image = item.image
    return {
        "id": item.id,
        "caption": item.caption,
        "partner": item.partner,
        "first_caption": item.first_caption,
        "n_captions": item.n_captions,
        "path": None if image is None else _below(image.path, root),
        "offset": None if image is None else image.offset,
        "length": None if image is None else image.length,
        "metadata": json.dumps(dict(item.metadata)) if item.metadata else None,
    }


def _from_columns(columns: dict[str, Any], modality: Modality, row: int, root: Path) -> Item:
    path, offset, length = (columns.pop(name) for name in ("path", "offset", "length"))
    metadata = columns.pop("metadata")
    return Item(
        modality=modality,
        row=row,
        image=None if path is None else ImageRef(root / path, offset, length),
        metadata=json.loads(metadata) if metadata else {},
        **columns,
    )


def _below(path: Path, root: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(root)) if absolute.is_relative_to(root) else str(absolute)
