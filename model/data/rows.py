"""Arrays on disk, opened as views: npy files, one or many behind one another."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from model.core.errors import DataFormatError
from model.core.types import RowArray

_BLOCK_VALUES = 1 << 22


class ConcatenatedRows:
    """Arrays with rows of one shape behind one another, without a copy until rows are asked for."""

    def __init__(self, parts: Sequence[NDArray[np.floating]]) -> None:
        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in self._parts)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *self._parts[0].shape[1:])
        self.dtype = np.result_type(*self._parts)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | RowArray) -> NDArray[np.floating]:
        """The rows in the order asked for: a view if they are a span of one part, else a copy."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step == 1:
                return self._span(start, stop)
            rows = np.arange(start, stop, step, dtype=np.int64)
        wanted = np.where(rows < 0, rows + len(self), rows)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"rows lie in 0 to {len(self) - 1}")
        out = np.empty((len(wanted), *self.shape[1:]), dtype=self.dtype)
        part_of = np.searchsorted(self._starts, wanted, side="right") - 1
        for part in np.unique(part_of):
            here = part_of == part
            out[here] = self._parts[part][wanted[here] - self._starts[part]]
        return out

    def _span(self, start: int, stop: int) -> NDArray[np.floating]:
        spans = [
            part[max(0, start - first) : max(0, stop - first)]
            for part, first in zip(self._parts, self._starts[:-1], strict=True)
        ]
        filled = [span for span in spans if len(span)] or spans[:1]
        rows = filled[0] if len(filled) == 1 else np.concatenate(filled)
        return rows.astype(self.dtype, copy=False)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.floating]:
        """All rows in memory."""
        return np.concatenate(self._parts).astype(dtype or self.dtype, copy=False)


RowTable: TypeAlias = NDArray[np.floating] | ConcatenatedRows


def concatenated(parts: Sequence[NDArray[np.floating]]) -> RowTable:
    """The parts as one table of rows; a single part as it is.

    Raises:
        DataFormatError: parts whose rows have different shapes.
    """
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise DataFormatError(f"shards need rows of one shape, got {sorted(shapes)}")
    return parts[0] if len(parts) == 1 else ConcatenatedRows(parts)


def open_npy(path: Path, ndim: int) -> NDArray[np.floating]:
    """The floats of an npy file, memory-mapped.

    Raises:
        DataFormatError: no npy file of floats with `ndim` dimensions, or one that is cut short.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataFormatError(f"{path} is no readable npy file of numbers: {reason}") from error
    if not isinstance(array, np.ndarray):
        raise DataFormatError(f"{path} needs one array, got an archive of arrays")
    if array.ndim != ndim or not np.issubdtype(array.dtype, np.floating):
        got = f"{array.dtype} of shape {array.shape}"
        raise DataFormatError(f"{path} needs floats with {ndim} dimensions, got {got}")
    return array


def check_finite(rows: RowTable, place: str) -> None:
    """Read every value once, in blocks.

    Raises:
        DataFormatError: a row with NaN or infinity; the message names the first one.
    """
    step = max(1, _BLOCK_VALUES // int(np.prod(rows.shape[1:], initial=1)))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise DataFormatError(f"{place} needs finite values, row {row} has NaN or infinity")
