"""The field's precomp layout: `{split}_ims.npy`, `{split}_caps.txt`, `{split}_ids.txt`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.core.errors import DataFormatError
from model.data.files import read_lines
from model.data.records import Collection, Layout, Record
from model.data.rows import open_npy
from model.data.values import text_value

CAPTIONS_PER_IMAGE = 5
FEATURES_ENDING = "_ims.npy"


def precomp_splits(folder: Path) -> list[str]:
    """The splits that a folder of this layout holds."""
    found = folder.glob(f"*{FEATURES_ENDING}")
    return sorted(path.name.removesuffix(FEATURES_ENDING) for path in found)


def open_precomp(folder: Path, split: str) -> Collection:
    """The split, an image a record, with its regions (N, R, F).

    Raises:
        DataFormatError: files that are missing, unreadable, or whose counts do not fit together.
    """
    regions = open_npy(folder / f"{split}{FEATURES_ENDING}", ndim=3)
    captions = _captions(folder / f"{split}_caps.txt")
    regions = _one_row_an_image(regions, captions, folder / split)
    ids = _ids(folder / f"{split}_ids.txt", len(regions), split)
    records = [
        Record(name, None, tuple(captions[start : start + CAPTIONS_PER_IMAGE]), {})
        for name, start in zip(ids, range(0, len(captions), CAPTIONS_PER_IMAGE), strict=True)
    ]
    return Collection(f"{folder.name}:{split}", Layout.PRECOMP, records, regions=regions)


def _captions(path: Path) -> list[str]:
    return [text_value(line, f"{path} line {i}") for i, line in enumerate(read_lines(path), 1)]


def _one_row_an_image(
    rows: NDArray[np.floating], captions: Sequence[str], place: Path
) -> NDArray[np.floating]:
    """Regions (N, R, F), a view of every fifth row where each image is repeated per caption."""
    if len(captions) == CAPTIONS_PER_IMAGE * len(rows):
        return rows
    if len(captions) == len(rows) and len(rows) % CAPTIONS_PER_IMAGE == 0 and _is_repeated(rows):
        return rows[::CAPTIONS_PER_IMAGE]
    raise DataFormatError(
        f"{place}_caps.txt needs {CAPTIONS_PER_IMAGE} captions an image, or one for each of the "
        f"rows where images are repeated: got {len(captions)} captions for {len(rows)} rows"
    )


def _is_repeated(rows: NDArray[np.floating]) -> bool:
    """Whether the first and the last image stand there once per caption."""
    ends = (rows[:CAPTIONS_PER_IMAGE], rows[-CAPTIONS_PER_IMAGE:])
    return all(np.array_equal(one[0], row, equal_nan=True) for one in ends for row in one)


def _ids(path: Path, n_images: int, split: str) -> list[str]:
    """The ids (N); of a file with one line per caption, every fifth."""
    if not path.exists():
        return [f"{split}-{row:06d}" for row in range(n_images)]
    ids = [text_value(line, f"{path} line {i}") for i, line in enumerate(read_lines(path), 1)]
    if len(ids) == CAPTIONS_PER_IMAGE * n_images:
        ids = ids[::CAPTIONS_PER_IMAGE]
    if len(ids) != n_images:
        raise DataFormatError(f"{path} needs an id for each of {n_images} images, got {len(ids)}")
    return ids
