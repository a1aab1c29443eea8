"""Thumbnails: WebP files one after the other, and where each begins."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from model.artifact.files import map_array, save_npy
from model.artifact.layout import VersionLayout
from model.core.closing import Closing
from model.core.errors import ArtifactError


class ThumbnailWriter(Closing):
    """Appends thumbnails in row order; an image without one takes no bytes."""

    def __init__(self, layout: VersionLayout) -> None:
        """Open the file of a version being written."""
        layout.directory.mkdir(parents=True, exist_ok=True)
        self._layout = layout
        self._ends = [0]
        self._file: BinaryIO = layout.thumbnails.open("wb")

    def append(self, webp: bytes) -> None:
        """Add the next row's thumbnail, empty where there is none."""
        self._file.write(webp)
        self._ends.append(self._ends[-1] + len(webp))

    def close(self) -> None:
        """Close the file and write the offsets."""
        self._file.close()
        save_npy(self._layout.thumbnail_offsets, np.asarray(self._ends, dtype=np.int64))


class Thumbnails:
    """Thumbnails (N) by image row, from mapped files."""

    def __init__(self, layout: VersionLayout, n_images: int) -> None:
        """Map the files.

        Raises:
            ArtifactError: the offsets do not fit the file, or there are not N of them.
        """
        self._offsets = map_array(layout.thumbnail_offsets, (n_images + 1,), np.int64)
        self._bytes = _map_bytes(layout.thumbnails)
        if int(self._offsets[-1]) != len(self._bytes):
            raise ArtifactError(
                f"{layout.thumbnails} should hold {self._offsets[-1]} bytes, "
                f"holds {len(self._bytes)}"
            )

    def __getitem__(self, row: int) -> bytes | None:
        """The WebP file of a row, None where it has none."""
        start, end = int(self._offsets[row]), int(self._offsets[row + 1])
        return self._bytes[start:end].tobytes() if end > start else None


def _map_bytes(path: Path) -> NDArray[np.uint8]:
    if path.stat().st_size == 0:
        return np.empty(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")
