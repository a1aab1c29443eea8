"""WebDataset tar shards, read in place: images stay in the tar and are found by offset."""

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydantic import JsonValue

from model.core.errors import DataFormatError
from model.data.files import IMAGE_SUFFIXES, in_order, storable
from model.data.records import Collection, ImageRef, Layout, Record
from model.data.values import caption_values, json_value, text_value

_BLOCK = tarfile.BLOCKSIZE
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass
class _Sample:
    """The members of a shard that share a stem."""

    image: ImageRef | None = None
    json_bytes: bytes | None = None
    text_bytes: bytes | None = None
    files: list[str] = field(default_factory=list)


def webdataset_splits(folder: Path) -> dict[str, list[Path]]:
    """The shards of a folder by split: what stands before the number; "" where nothing does."""
    splits: dict[str, list[Path]] = {}
    for path in in_order(folder.glob("*.tar")):
        splits.setdefault(re.sub(r"[-_.]?\d*\.tar$", "", path.name), []).append(path)
    return splits


def expand_pattern(pattern: str) -> list[Path]:
    """The files that a pattern with `*`, `?`, `[…]`, `{a,b}` or `{0000..0005}` names, in order."""
    found = {path for one in _expand_braces(pattern) for path in _matches(Path(one))}
    return in_order(found)


def open_webdataset(shards: list[Path], name: str) -> Collection:
    """The samples of the shards, in order; only names, captions and offsets are read.

    Raises:
        DataFormatError: a shard that is cut short or compressed, or a sample that breaks the form.
    """
    records = [record for shard in shards for record in _records(storable(shard))]
    return Collection(name, Layout.WEBDATASET, records)


def _expand_braces(pattern: str) -> Iterator[str]:
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in _choices(found[1]):
        yield from _expand_braces(pattern[: found.start()] + choice + pattern[found.end() :])


def _choices(inner: str) -> list[str]:
    if (bounds := _RANGE.fullmatch(inner)) is None:
        return inner.split(",")
    first, last = bounds.groups()
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]


def _matches(path: Path) -> list[Path]:
    if not any(sign in str(path) for sign in "*?["):
        return [path]
    root = Path(path.anchor)
    return list(root.glob(str(path.relative_to(root))))


def _records(shard: Path) -> Iterator[Record]:
    """One shard's samples, in order of their first members."""
    samples: dict[str, _Sample] = {}
    try:
        with shard.open("rb") as file:
            for member in _members(file, shard):
                _add(samples, member, shard, file)
    except OSError as error:
        raise DataFormatError(f"{shard} cannot be read: {error.strerror}") from error
    for stem, sample in samples.items():
        if sample.files:
            yield _record(stem, sample, shard)


def _members(file: BinaryIO, shard: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of a tar that is whole: it ends with a block of zeros."""
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                end = tar.offset
                if member.isreg():
                    yield member
    except (tarfile.TarError, ValueError) as error:
        raise DataFormatError(f"{shard} is no whole, uncompressed tar: {error}") from error
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise DataFormatError(f"{shard} is cut short: no closing block at byte {end}")


def _add(samples: dict[str, _Sample], member: tarfile.TarInfo, shard: Path, file: BinaryIO) -> None:
    """Note a member in its sample; what is neither image nor caption is passed over."""
    folder, _, name = member.name.rpartition("/")
    stem, _, ending = name.partition(".")
    if not stem or stem.startswith("__"):
        return
    key = f"{folder}/{stem}".removeprefix("./").removeprefix("/") if folder else stem
    sample = samples.setdefault(key, _Sample())
    if (ending := ending.lower()) in sample.files:
        raise DataFormatError(f"ids of {shard} need to be unique, got {key!r} twice")
    if f".{ending}" in IMAGE_SUFFIXES:
        _add_image(sample, key, ImageRef(shard, member.offset_data, member.size), shard)
    elif ending == "json":
        sample.json_bytes = _content(file, member)
    elif ending == "txt":
        sample.text_bytes = _content(file, member)
    else:
        return
    sample.files.append(ending)


def _add_image(sample: _Sample, key: str, image: ImageRef, shard: Path) -> None:
    if sample.image is not None:
        raise DataFormatError(f"{shard}: sample {key!r} needs one image, got two")
    sample.image = image


def _content(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    """The member's bytes; the tar reader finds its place again by itself."""
    file.seek(member.offset_data)
    return file.read(member.size)


def _record(stem: str, sample: _Sample, shard: Path) -> Record:
    what = f"{shard}: sample {stem!r}"
    about = _parsed(sample.json_bytes, what)
    captions = caption_values(about.pop("captions", None) or about.pop("caption", None), what)
    if not captions and sample.text_bytes is not None:
        lines = _decoded(sample.text_bytes, what).split("\n")
        captions = caption_values([line for line in lines if line.strip()], what)
    if sample.image is None and not captions:
        raise DataFormatError(f"{what} needs an image or captions, got neither")
    return Record(text_value(stem, what), sample.image, captions, about)


def _parsed(data: bytes | None, what: str) -> dict[str, JsonValue]:
    if data is None:
        return {}
    try:
        about = json_value(json.loads(_decoded(data, what)))
    except (ValueError, RecursionError) as error:
        raise DataFormatError(f"{what} has broken JSON: {error}") from error
    if not isinstance(about, dict):
        raise DataFormatError(f"{what} needs a JSON object, got {type(about).__name__}")
    return about


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{what} needs UTF-8 text: {error}") from error
