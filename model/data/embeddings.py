"""Folders of precomputed embeddings.

Three forms:

- as clip-retrieval writes them: `img_emb/img_emb_*.npy`, `text_emb/text_emb_*.npy` and
  `metadata/metadata_*.parquet` with a row an item (`image_path`, `caption`, others);
- `image.npy` (N, D), `text.npy` (T, D), and if wanted `items.parquet` (a row an item: `id`,
  `captions`, others), or `ids.txt` (N lines) and `captions.txt` (T lines, as many an item);
- Parquet files with list columns `image_embedding` (or `embedding`) and `text_embedding`.

An item's id is its `id`, `key` or `image_path`, else its row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from model.core.errors import DataFormatError
from model.core.types import Modality
from model.data.arrow_records import records_from
from model.data.files import in_order, read_lines
from model.data.records import Collection, Layout
from model.data.rows import RowTable, concatenated, open_npy

Tables = Mapping[Modality, RowTable]

_SHARD_FOLDERS = {Modality.IMAGE: "img_emb", Modality.TEXT: "text_emb"}
_ARRAY_FILES = {Modality.IMAGE: "image.npy", Modality.TEXT: "text.npy"}
_VECTOR_COLUMNS = {
    Modality.IMAGE: ("image_embedding", "img_emb", "embedding"),
    Modality.TEXT: ("text_embedding", "text_emb"),
}


def is_embeddings_folder(folder: Path) -> bool:
    """Whether the folder has one of the two forms with npy files."""
    shards = any((folder / name).is_dir() for name in _SHARD_FOLDERS.values())
    return shards or any((folder / name).is_file() for name in _ARRAY_FILES.values())


def holds_vectors(path: Path) -> bool:
    """Whether a Parquet file has a column of embeddings."""
    return bool(_vector_columns(_read_schema(path)))


def open_embeddings(folder: Path, name: str) -> Collection:
    """The items of a folder with npy files, their embeddings memory-mapped.

    Raises:
        DataFormatError: files that are unreadable or whose counts do not fit together.
    """
    if any((folder / shards).is_dir() for shards in _SHARD_FOLDERS.values()):
        tables = _sharded_tables(folder)
        items = _metadata_table(folder / "metadata")
    else:
        found = {one: folder / file for one, file in _ARRAY_FILES.items()}
        tables = {one: open_npy(file, ndim=2) for one, file in found.items() if file.exists()}
        items = _items_table(folder, tables)
    return _collection(folder, name, tables, items)


def open_vector_parquet(paths: Sequence[Path], name: str) -> Collection:
    """The items of Parquet files with list columns of embeddings, which are held in memory.

    Raises:
        DataFormatError: a file that is unreadable, or embeddings of more than one width.
    """
    table = _joined([_read_table(path) for path in paths], paths[0].parent)
    columns = _vector_columns(table.schema)
    tables = {one: _vectors(table[column], column) for one, column in columns.items()}
    return _collection(paths[0].parent, name, tables, table.drop_columns(list(columns.values())))


def _sharded_tables(folder: Path) -> Tables:
    """The npy shards of each modality, one behind another."""
    tables = {}
    for modality, name in _SHARD_FOLDERS.items():
        if shards := in_order((folder / name).glob("*.npy")):
            tables[modality] = concatenated([open_npy(shard, ndim=2) for shard in shards])
    if not tables:
        names = " or ".join(f"{name}/*.npy" for name in _SHARD_FOLDERS.values())
        raise DataFormatError(f"{folder} needs {names}, got neither")
    return tables


def _metadata_table(folder: Path) -> pa.Table | None:
    """The metadata shards, one behind another; a column that a shard lacks is null there."""
    shards = in_order(folder.glob("*.parquet"))
    if not shards:
        return None
    return _joined([_read_table(shard) for shard in shards], folder)


def _items_table(folder: Path, tables: Tables) -> pa.Table | None:
    """The items of the plain form, from `items.parquet` or the text files."""
    if (path := folder / "items.parquet").exists():
        return _read_table(path)
    columns = {}
    if (path := folder / "ids.txt").exists():
        columns["id"] = pa.array(read_lines(path), pa.string())
    if (path := folder / "captions.txt").exists():
        lines = read_lines(path)
        count = len(columns.get("id", tables.get(Modality.IMAGE, lines)))
        columns["captions"] = _shared_out(lines, count, path)
    return pa.table(columns) if columns else None


def _shared_out(lines: list[str], n_items: int, path: Path) -> pa.Array:
    """Lists of captions (N), equally many an item."""
    if n_items == 0 or len(lines) % n_items:
        got = f"got {len(lines)} for {n_items}"
        raise DataFormatError(f"{path} needs as many captions for every item, {got}")
    each = len(lines) // n_items
    return pa.array([lines[each * row : each * (row + 1)] for row in range(n_items)])


def _collection(folder: Path, name: str, tables: Tables, items: pa.Table | None) -> Collection:
    counts = {modality: len(rows) for modality, rows in tables.items()}
    n_texts = counts.get(Modality.TEXT)
    n_items = counts.get(Modality.IMAGE, n_texts or 0 if items is None else len(items))
    if items is not None and len(items) != n_items:
        rule = f"{folder} needs a row of metadata for each of {n_items} images"
        raise DataFormatError(f"{rule}, got {len(items)}")
    records = records_from(items, folder, n_items, n_texts)
    return Collection(name, Layout.EMBEDDINGS, records, embeddings=tables)


def _vector_columns(schema: pa.Schema) -> dict[Modality, str]:
    """The column of each modality that the schema has as lists."""
    lists = {field.name for field in schema if _is_list(field.type)}
    found = {
        modality: next((name for name in names if name in lists), None)
        for modality, names in _VECTOR_COLUMNS.items()
    }
    return {modality: name for modality, name in found.items() if name is not None}


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _vectors(column: pa.ChunkedArray, name: str) -> NDArray[np.floating]:
    """The lists as rows (N, D): half precision stays, all else becomes float32."""
    widths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(widths) != 1 or not widths[0]:
        raise DataFormatError(f"column {name} needs lists of one width, got {widths[:5]}")
    values = pc.list_flatten(column)
    if values.null_count:
        raise DataFormatError(f"column {name} needs numbers only, got null in a list")
    if values.type != pa.float16():
        values = values.cast(pa.float32())
    array: NDArray[np.floating] = values.to_numpy().reshape(-1, widths[0])
    return array


def _joined(tables: Sequence[pa.Table], place: Path) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataFormatError(f"{place} has Parquet files that do not fit: {error}") from error


def _read_table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataFormatError(f"{path} is no readable Parquet file: {error}") from error


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataFormatError(f"{path} is no readable Parquet file: {error}") from error
