"""Writing so that a crash leaves either the old file or the whole new one."""

import os
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import DTypeLike, NDArray

from model.core.closing import Closing
from model.core.errors import ArtifactError

Value = TypeVar("Value", bound=np.generic)


def sync_file(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Flush every file and folder below, and the folder itself."""
    for path in sorted(directory.rglob("*")):
        sync_file(path)
    sync_file(directory)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial-{os.getpid()}")
    temporary.write_bytes(content)
    rename_durably(temporary, path)


def rename_durably(source: Path, target: Path) -> None:
    """Give a finished file or folder its final name, so that it survives a power cut."""
    if source.is_file():
        sync_file(source)
    else:
        sync_tree(source)
    source.replace(target)
    sync_file(target.parent)


class NpyStream(Closing):
    """An npy file written block by block, its shape known from the start."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Write the header; the rows follow through `append`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        self._file: BinaryIO = path.open("wb")
        npy_format.write_array_header_1_0(
            self._file,
            {
                "descr": npy_format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": shape,
            },
        )

    def append(self, block: NDArray[Any]) -> None:
        """Add rows."""
        self._file.write(np.ascontiguousarray(block, dtype=self._dtype).data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def save_npy(path: Path, array: NDArray[Any]) -> None:
    """Write an array whole."""
    with NpyStream(path, array.shape, array.dtype) as stream:
        stream.append(array)


def map_array(path: Path, shape: tuple[int, ...], dtype: type[Value]) -> NDArray[Value]:
    """A mapped npy file of exactly this shape and kind.

    Raises:
        ArtifactError: there is none, or the header says something else.
    """
    try:
        array: NDArray[Value] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{path} cannot be mapped: {error}") from error
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ArtifactError(
            f"{path} should be {np.dtype(dtype)} {shape}, is {array.dtype} {array.shape}"
        )
    return array
