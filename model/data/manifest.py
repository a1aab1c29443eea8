"""Manifests: one item a line (JSONL) or a row (Parquet), with the images beside them.

Keys: `id`, `path` (or `file_name`), `captions` (a list) or `caption`, `metadata`; each may be
missing, but an item has an image or a caption. Keys of other names go to the metadata. A path
is relative to the manifest's folder and stays inside it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from model.core.errors import DataFormatError
from model.data.files import inside, read_lines
from model.data.records import Collection, ImageRef, Layout, Record
from model.data.values import caption_values, json_value, text_value

MANIFEST_SUFFIXES = (".jsonl", ".parquet")
_PATH_KEYS = ("path", "file_name")
_CAPTION_KEYS = ("captions", "caption")
_KNOWN_KEYS = frozenset({"id", "metadata", *_PATH_KEYS, *_CAPTION_KEYS})


def open_manifest(path: Path, name: str) -> Collection:
    """The items of a JSONL or Parquet manifest, in order.

    Raises:
        DataFormatError: a line or row that breaks the form; the message names it.
    """
    rows = _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path)
    records = [_record(row, path.parent, what) for what, row in rows]
    return Collection(name, Layout.MANIFEST, records)


def _json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every line with its place, without the empty ones."""
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        what = f"{path} line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataFormatError(f"{what} is broken JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataFormatError(f"{what} needs a JSON object, got {type(row).__name__}")
        yield what, row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Every row with its place."""
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
            yield from ((f"{path} row {number}", row) for number, row in enumerate(rows))
    except (OSError, pa.ArrowException) as error:
        raise DataFormatError(f"{path} is no readable Parquet file: {error}") from error


def _record(row: Mapping[str, object], folder: Path, what: str) -> Record:
    path = _first(row, _PATH_KEYS)
    captions = caption_values(_first(row, _CAPTION_KEYS), what)
    if path is None and not captions:
        raise DataFormatError(f"{what} needs a path or captions, got neither")
    image = None
    if path is not None:
        image = ImageRef(inside(folder, text_value(path, f"{what}, path"), what))
    return Record(_id(row.get("id"), path, what), image, captions, _metadata(row, what))


def _first(row: Mapping[str, object], keys: tuple[str, ...]) -> object:
    return next((row[key] for key in keys if row.get(key) is not None), None)


def _id(value: object, path: object, what: str) -> str:
    """The id given; else the path without its ending; else the place."""
    if value is None:
        if path is None:
            return f"row-{what.rpartition(' ')[2]}"
        return str(PurePosixPath(str(path)).with_suffix(""))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_value(value, f"{what}, id")


def _metadata(row: Mapping[str, object], what: str) -> dict[str, JsonValue]:
    """The metadata of an item: an object, or its JSON text, and all keys of other names."""
    given = row.get("metadata")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise DataFormatError(f"{what}: metadata is broken JSON: {error}") from error
    if not (given is None or isinstance(given, Mapping)):
        raise DataFormatError(f"{what}: metadata needs to be an object, got {given!r}")
    others = {key: value for key, value in row.items() if key not in _KNOWN_KEYS}
    return {key: json_value(value) for key, value in {**others, **(given or {})}.items()}
