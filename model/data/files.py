"""File names: the images among them, their order, and paths that stay inside their folder."""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from model.core.errors import DataFormatError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


def is_image_name(name: str) -> bool:
    """Whether a file of that name is taken for an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def in_order(paths: Iterable[Path]) -> list[Path]:
    """The paths as people count: part-2 before part-10."""
    return sorted(paths, key=lambda path: (_natural(str(path)), str(path)))


def inside(folder: Path, relative: str, what: str) -> Path:
    """The path in the folder; an absolute path is taken if it lies there.

    Links that the folder holds are followed: they are its owner's.

    Raises:
        DataFormatError: a path that leads out of the folder.
    """
    root = os.path.normpath(folder.absolute())
    path = os.path.normpath(os.path.join(root, relative))  # noqa: PTH118 - only text is compared
    if "\0" in relative or os.path.commonpath([root, path]) != root or path == root:
        raise DataFormatError(f"{what} needs a path inside {folder}, got {relative!r}")
    return folder / os.path.relpath(path, root)


def storable(path: Path) -> Path:
    """The path, whose name UTF-8 can hold, as an index needs it to.

    Raises:
        DataFormatError: a name with other bytes.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataFormatError(
            f"a file name needs to be UTF-8, got {os.fsencode(path)!r}"
        ) from error
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, split at line feeds only.

    Raises:
        DataFormatError: bytes that are not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise DataFormatError(f"{path} needs to be a UTF-8 text file: {error}") from error
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
