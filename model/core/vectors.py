"""Pure vector arithmetic shared by every stage."""

import numpy as np

from model.core.errors import VectorRejectedError
from model.core.types import ByteArray, FloatArray, RankArray, RowArray

LEAST_LENGTH = 1e-3  # half precision leaves about 3e-4 of a unit vector minus itself


def l2_normalised(vectors: FloatArray) -> FloatArray:
    """Unit rows (N, D); a row of zeros stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def query_vectors(vectors: FloatArray, dim: int) -> FloatArray:
    """Unit rows (Q, D) of vectors handed in by a caller.

    Raises:
        VectorRejectedError: the width is not D, or a value is not finite, or a row is zero.
    """
    vectors = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    if vectors.shape[1] != dim:
        raise VectorRejectedError(f"vectors need D={dim} values, got {vectors.shape[1]}")
    if not np.isfinite(vectors).all():
        raise VectorRejectedError("vectors need finite values, got NaN or infinity")
    if not np.linalg.norm(vectors, axis=1).all():
        raise VectorRejectedError("vectors need a direction, got a row of zeros")
    return l2_normalised(vectors)


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
