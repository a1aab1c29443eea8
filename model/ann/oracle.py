"""Slow, exact twins of the fast searches: what they are tested against."""

import numpy as np

from model.core.types import ByteArray, FloatArray, RankArray, RowArray


def hamming_distances(queries: ByteArray, codes: ByteArray) -> RankArray:
    """Differing bits (Q, N) between packed codes (Q, K/8) and (N, K/8)."""
    differing = queries[:, None, :] ^ codes[None, :, :]
    return np.asarray(np.unpackbits(differing, axis=-1).sum(axis=-1), dtype=np.int32)


def hamming_search(queries: ByteArray, codes: ByteArray, k: int) -> tuple[RankArray, RowArray]:
    """Distances and rows (Q, k) by (distance, row), from the full matrix."""
    distances = hamming_distances(queries, codes)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows.astype(np.int64)


def inner_product_search(
    queries: FloatArray, vectors: FloatArray, k: int
) -> tuple[FloatArray, RowArray]:
    """Scores and rows (Q, k), highest inner product first, equal ones by lower row."""
    scores = np.asarray(queries @ vectors.T, dtype=np.float32)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, axis=1), rows.astype(np.int64)
