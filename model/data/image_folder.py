"""A folder of images, of any depth."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from model.data.files import in_order, is_image_name, storable
from model.data.records import Collection, ImageRef, Layout, Record


def open_image_folder(folder: Path, name: str) -> Collection:
    """The images, in order of their paths; hidden files and folders are passed over.

    An id is the path without its ending; files that differ in nothing else keep theirs.

    Raises:
        DataFormatError: a name that is not UTF-8.
    """
    paths = in_order(storable(path).relative_to(folder) for path in image_files(folder))
    stems = Counter(path.with_suffix("") for path in paths)
    records = [
        Record(_id(path, stems), ImageRef(folder / path), captions=(), metadata={})
        for path in paths
    ]
    return Collection(name, Layout.IMAGES, records)


def image_files(folder: Path) -> Iterator[Path]:
    """The files with the ending of an image, in no order."""
    for place, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".")]
        for name in names:
            if is_image_name(name) and not name.startswith("."):
                yield Path(place) / name


def _id(path: Path, stems: Counter[Path]) -> str:
    stem = path.with_suffix("")
    return (stem if stems[stem] == 1 else path).as_posix()
