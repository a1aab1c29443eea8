"""Pure vector arithmetic shared by every stage."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.core.errors import VectorRejectedError
from model.core.types import ByteArray, FloatArray, RankArray, RowArray

SQUARABLE = (1e-100, 1e100)  # lengths whose squares neither vanish nor overflow
LEAST_LENGTH = 1e-3  # half precision leaves about 3e-4 of a unit vector minus itself


def l2_normalised(vectors: FloatArray) -> FloatArray:
    """Unit rows (N, D); a row of zeros stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def query_vectors(vectors: Sequence[Sequence[float]], dim: int) -> FloatArray:
    """Unit rows (Q, D) of vectors handed in by callers, of any length above zero.

    Raises:
        VectorRejectedError: the width is not D, or a value is not finite, or all are zero.
    """
    for values in vectors:
        if len(values) != dim:
            raise VectorRejectedError(f"vectors need D={dim} values, got {len(values)}")
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = _lengths(rows)
    if not ((lengths > SQUARABLE[0]) & (lengths < SQUARABLE[1])).all():
        rows = _rescaled(rows)
        lengths = _lengths(rows)
    return (rows / lengths).astype(np.float32)


def _lengths(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths (Q, 1), infinite where squares overflow, which a sum of products never warns of."""
    return np.asarray(np.sqrt(np.einsum("qd,qd->q", rows, rows))[:, None])


def _rescaled(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (Q, D) each times a power of two, so that its largest value lies in 0.5 to 1."""
    if not np.isfinite(rows).all():
        raise VectorRejectedError("vectors need finite values, got NaN or infinity")
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        raise VectorRejectedError("vectors need a direction, got a row of zeros")
    return np.asarray(np.ldexp(rows, -np.frexp(largest)[1]))


def shifted(
    query: FloatArray, plus: FloatArray, minus: FloatArray, weights: tuple[float, float]
) -> FloatArray:
    """A unit query (D,) moved towards unit rows `plus` (P, D) and away from `minus` (M, D).

    unit(query + w₊ · mean(plus) - w₋ · mean(minus)), with weights (w₊, w₋); no rows, no move.

    Raises:
        VectorRejectedError: what is left is shorter than the rounding of stored embeddings.
    """
    moved = query.astype(np.float64)
    for rows, weight in ((plus, weights[0]), (minus, -weights[1])):
        if len(rows):
            moved += weight * rows.mean(axis=0, dtype=np.float64)
    if (length := float(np.linalg.norm(moved))) < LEAST_LENGTH:
        raise VectorRejectedError(
            f"a query needs a direction once `plus` is added and `minus` is taken away: a length "
            f"of {LEAST_LENGTH}, {length:.2g} is left"
        )
    return np.asarray(moved / length, dtype=np.float32)


def cosines(vectors: FloatArray, queries: FloatArray) -> FloatArray:
    """Cosines (..., C) of unit queries (..., D) with unit vectors (..., C, D).

    A sum per vector, the same bits whoever stands beside it: a matrix product's are not.
    """
    found: FloatArray = np.einsum("...cd,...d->...c", vectors, queries)
    return found


def pack_signs(hash_space: FloatArray) -> ByteArray:
    """Hash codes (N, K/8): bit i of a row is set where value i is above zero, low bit first."""
    return np.packbits(hash_space > 0, axis=-1, bitorder="little")


def best_rows(scores: FloatArray, rows: RowArray, count: int) -> RowArray:
    """Positions (count,) of the highest scores, best first; equal scores by lower row."""
    return np.lexsort((rows, -scores))[:count]


def bit_distances(codes: ByteArray, code: ByteArray) -> RankArray:
    """Differing bits (N,) between packed codes (N, K/8) and one code (K/8,)."""
    return np.asarray(_BITS[codes ^ code].sum(axis=-1, dtype=np.int32))


_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)
