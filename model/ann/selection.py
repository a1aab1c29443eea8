"""The one rule of order among candidates, for one query or for many at once."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.core.types import FloatArray, RowArray
from model.core.vectors import best_rows

Values = TypeVar("Values", bound=np.generic)
SORTED_WHOLE = 512  # so few candidates are sorted faster than parted first
ROW_BITS = 32  # of a key; what is above them is the score


def top_positions(scores: FloatArray, rows: RowArray, count: int) -> RowArray:
    """Positions (..., count) of the highest scores (..., C), best first; equal ones by lower row.

    The same answer as `best_rows`, query by query. Score and row are made one whole number,
    which numpy sorts several times faster than two columns.
    """
    if int(rows.max(initial=0)) >> ROW_BITS:
        return _by_columns(scores, rows, count)
    keys = _keys(scores, rows)
    if keys.shape[-1] <= max(SORTED_WHOLE, count) or not count:
        return keys.argsort(axis=-1)[..., :count]
    kept = keys.argpartition(count - 1, axis=-1)[..., :count]
    return along(kept, along(keys, kept).argsort(axis=-1))


def along(values: NDArray[Values], places: RowArray) -> NDArray[Values]:
    """The values (..., k) of each query's row (..., C) at its own places (..., k)."""
    return values.reshape(-1).take(_flat(places, values.shape[-1]))


def _flat(places: RowArray, width: int) -> RowArray:
    """Places (..., k) in rows (..., C) of some width as places in all of them flattened."""
    if places.ndim == 1 or len(places) == 1:
        return places
    return places + np.arange(len(places))[:, None] * width


def _keys(scores: FloatArray, rows: RowArray) -> RowArray:
    """Whole numbers (..., C) that rise as scores fall and, where these are equal, as rows rise.

    The bits of a float order as a signed number once those below the sign of a negative one are
    turned over.
    """
    bits = (np.float32(0) - scores).view(np.int32)  # not -scores: -0.0 equals 0.0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    keys = bits.astype(np.int64)
    keys <<= ROW_BITS
    keys |= rows
    return keys


def _by_columns(scores: FloatArray, rows: RowArray, count: int) -> RowArray:
    """The same for rows of any size."""
    if scores.ndim == 1:
        return best_rows(scores, rows, count)
    return np.stack([best_rows(*one, count) for one in zip(scores, rows, strict=True)])
