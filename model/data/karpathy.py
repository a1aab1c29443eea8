"""Karpathy's split files: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

One JSON object, `{"images": [{"filename", "filepath", "split", "sentences": [{"raw"}], …}]}`.
The image files lie in the file's folder or in its `images/`, those of COCO under `filepath`
(`train2014`, `val2014`). What is marked `restval`, the part of COCO's validation images that
neither `val` nor `test` took, belongs to `train`, as the field trains. Ids of images and
sentences (`cocoid`, `sentids`) stay in the metadata.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from model.core.errors import DataFormatError
from model.data.files import inside
from model.data.records import Collection, ImageRef, Layout, Record
from model.data.values import json_value, text_value

_PARTS_OF = {"restval": "train"}
_IMAGE_FOLDERS = ("", "images")
_READ_ELSEWHERE = frozenset({"filename", "sentences"})
# What the datasets library leaves in its folders has names of the same form.
_OTHER_FILES = frozenset({"dataset_info", "dataset_infos", "dataset_dict"})

Entry = tuple[str, Mapping[str, object]]  # where it stands, and what


def karpathy_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as these are."""
    found = [*folder.glob("dataset.json"), *folder.glob("dataset_*.json")]
    return sorted(path for path in found if path.stem not in _OTHER_FILES)


def open_karpathy(path: Path, split: str | None, place: str) -> Collection:
    """The images of a split with their captions, in the file's order; `place` gives the name.

    Raises:
        DataFormatError: a file that breaks the form, no such split, or an image that is missing.
    """
    by_split: dict[str, list[Entry]] = {}
    for what, entry in _entries(path):
        name = text_value(entry.get("split"), f"{what}, split")
        by_split.setdefault(_PARTS_OF.get(name, name), []).append((what, entry))
    chosen = _chosen(split, by_split, path)
    records = [_record(entry, path.parent, what) for what, entry in by_split.get(chosen, [])]
    return Collection(f"{place}:{chosen}", Layout.KARPATHY, records)


def _chosen(split: str | None, by_split: Mapping[str, object], path: Path) -> str:
    """The split asked for, or the only one."""
    names = ", ".join(sorted(by_split)) or "none"
    if split is None and len(by_split) > 1:
        raise DataFormatError(f"{path} holds several splits, name one as DIR:SPLIT: {names}")
    if split is not None and split not in by_split:
        raise DataFormatError(f"{path} has no split {split!r}: it has {names}")
    return split or next(iter(by_split), "")


def _entries(path: Path) -> list[Entry]:
    """What `images` lists, with the place of each in the file."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{path} is broken JSON: {error}") from error
    images = whole.get("images") if isinstance(whole, dict) else None
    if not isinstance(images, list):
        got = type(images if isinstance(whole, dict) else whole).__name__
        raise DataFormatError(f'{path} needs an object with a list "images", got {got}')
    return [
        (f"{path} image {i}", _object(one, f"{path} image {i}")) for i, one in enumerate(images)
    ]


def _record(entry: Mapping[str, object], folder: Path, what: str) -> Record:
    name = text_value(entry.get("filename"), f"{what}, filename")
    sentences = _sentences(entry, what)
    captions = [text_value(one.get("raw"), f"{place}, raw") for place, one in sentences]
    metadata = {k: json_value(v) for k, v in entry.items() if k not in _READ_ELSEWHERE}
    given = [one["sentid"] for _, one in sentences if "sentid" in one]
    if given and len(given) == len(captions):  # in the captions' order, whatever the list says
        metadata["sentids"] = json_value(given)
    image = ImageRef(_image_file(entry, name, folder, what))
    return Record(str(PurePosixPath(name).with_suffix("")), image, tuple(captions), metadata)


def _sentences(entry: Mapping[str, object], what: str) -> list[Entry]:
    given = entry.get("sentences")
    if not isinstance(given, list):
        raise DataFormatError(f"{what}, sentences need to be a list, got {type(given).__name__}")
    places = [f"{what}, sentence {i}" for i in range(len(given))]
    return [(place, _object(one, place)) for place, one in zip(places, given, strict=True)]


def _image_file(entry: Mapping[str, object], name: str, folder: Path, what: str) -> Path:
    """The image's file, under `filepath` where that is given."""
    below = entry.get("filepath")
    if below is not None:
        name = f"{text_value(below, f'{what}, filepath')}/{name}"
    looked_for = [inside(folder, str(PurePosixPath(up, name)), what) for up in _IMAGE_FOLDERS]
    found = next((path for path in looked_for if path.is_file()), None)
    if found is None:
        places = " or ".join(str(path) for path in looked_for)
        raise DataFormatError(f"{what} needs its file, looked for {places}")
    return found


def _object(value: object, what: str) -> dict[str, JsonValue]:
    if not isinstance(value, dict):
        raise DataFormatError(f"{what} needs to be an object, got {type(value).__name__}")
    return value
