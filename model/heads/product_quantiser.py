"""Product quantisation with learned codebooks (M, L, S): assign, decode, score.

Scores are asymmetric: the query stays continuous, the item is what its code decodes to. With
inner products that is a sum of M look-ups (MEET, Stage I).
"""

import numpy as np

from model.core.errors import CodeShapeError
from model.core.types import ByteArray, FloatArray


def sub_vectors(codebooks: FloatArray, vectors: FloatArray) -> FloatArray:
    """Vectors (N, K) as (N, M, S), contiguous slices of the width.

    Raises:
        CodeShapeError: K is not M·S.
    """
    n_subspaces, _, sub_width = codebooks.shape
    if vectors.shape[-1] != n_subspaces * sub_width:
        raise CodeShapeError(
            f"codebooks of M={n_subspaces} and S={sub_width} need vectors of "
            f"K={n_subspaces * sub_width}, got K={vectors.shape[-1]}"
        )
    return vectors.reshape(-1, n_subspaces, sub_width)


def assign(codebooks: FloatArray, vectors: FloatArray) -> ByteArray:
    """Codes (N, M): the nearest centroid of each sub-vector, the lower index among equals."""
    parts = sub_vectors(codebooks, vectors)
    codes = np.empty(parts.shape[:2], dtype=np.uint8)
    for m, book in enumerate(codebooks):
        # ‖x - c‖² without ‖x‖², which is the same for all centroids
        distances = np.einsum("ls,ls->l", book, book) - 2.0 * (parts[:, m] @ book.T)  # (N, L)
        codes[:, m] = distances.argmin(axis=1)
    return codes


def decode(codebooks: FloatArray, codes: ByteArray) -> FloatArray:
    """Vectors (N, K) that the codes (N, M) stand for."""
    parts = codebooks[np.arange(len(codebooks)), codes]  # (N, M, S)
    return parts.reshape(len(codes), codebooks.shape[0] * codebooks.shape[2])


def lookup_tables(codebooks: FloatArray, hash_space: FloatArray) -> FloatArray:
    """Inner products (Q, M, L) of each query sub-vector with each centroid."""
    parts = sub_vectors(codebooks, hash_space)
    tables: FloatArray = np.einsum("mls,qms->qml", codebooks, parts, dtype=np.float32)
    return tables


def adc_scores(tables: FloatArray, codes: ByteArray) -> FloatArray:
    """Scores (..., C) of codes (..., C, M): tables (..., M, L) looked up, summed over M in order.

    Sub-spaces come before candidates in what is looked up, so that whole rows are added. Row by
    row: a sum over an axis changes its order where there is one candidate.
    """
    width = tables.shape[-1]
    starts = np.arange(0, tables.size, width).reshape(*tables.shape[:-1], 1)  # (..., M, 1)
    places = np.add(np.swapaxes(codes, -1, -2), starts, order="C")  # (..., M, C)
    values = tables.reshape(-1).take(places)
    scores = values[..., 0, :].copy()
    for m in range(1, values.shape[-2]):
        scores += values[..., m, :]
    return scores
