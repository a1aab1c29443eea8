"""Heads without training, for an encoder that came without a checkpoint.

One rotation for both modalities: PCA of the centred embeddings, then iterative quantisation
(Gong and Lazebnik, CVPR 2011), which turns the space until its signs lose least. Each modality
is centred by its own mean, which closes the gap that contrastive encoders leave between them.

The algebra is torch's: numpy's thread pool slows down tenfold when cores are shared.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.ann.faiss_door import kmeans
from model.core.errors import CodeShapeError
from model.core.types import FloatArray, Modality
from model.heads.heads import Heads, HeadsConfig, ModalityHead
from model.heads.product_quantiser import sub_vectors

FIT_ROWS = 32_768
ITERATIONS = 40
# Root mean square before the tanh: flat enough there for inner products to follow cosines.
PRE_TANH_RMS = 0.5


class _Sample(NamedTuple):
    mean: FloatArray  # (D,)
    centred: FloatArray  # (n, D)


def fit_heads(
    config: HeadsConfig, embeddings: Mapping[Modality, NDArray[np.floating]], seed: int
) -> Heads:
    """Heads fitted to embeddings (N, D) of one or both modalities; a seed makes them repeat.

    A modality that is not given shares the other's mean and codebooks: good enough to search
    vectors alike, worse across modalities. Hand in the bank where the gallery has one side.

    Raises:
        CodeShapeError: no embeddings at all, or of another width than the config's.
    """
    samples = {m: _sample(config, e, seed) for m, e in embeddings.items() if len(e)}
    if not samples:
        raise CodeShapeError("heads are fitted to at least one embedding, got none")
    weight = _rotation(np.concatenate([s.centred for s in samples.values()]), config.n_bits, seed)
    fitted = {m: _head(config, weight, sample, seed) for m, sample in samples.items()}
    return Heads(config, {m: fitted.get(m) or fitted[m.other] for m in Modality})


def fit_codebooks(config: HeadsConfig, hash_space: FloatArray, seed: int) -> FloatArray:
    """Codebooks (M, L, S) by k-means over the sub-spaces of vectors (N, K)."""
    empty = np.empty((config.n_subspaces, 1, config.sub_width), dtype=np.float32)
    parts = sub_vectors(empty, hash_space)  # (N, M, S)
    books = [kmeans(parts[:, m], config.n_centroids, seed) for m in range(config.n_subspaces)]
    return np.stack(books)


def iterative_quantisation(projected: Tensor, n_bits: int, seed: int) -> Tensor:
    """The map (K, P), with orthonormal rows or columns, that brings points (N, P) near signs.

    With more bits than dimensions it is a tight frame instead of a rotation.
    """
    generator = torch.Generator().manual_seed(seed)
    rotation = _nearest_orthonormal(torch.randn(n_bits, projected.shape[1], generator=generator))
    for _ in range(ITERATIONS):
        signs = torch.where(projected @ rotation.T > 0, 1.0, -1.0)  # (N, K)
        rotation = _nearest_orthonormal(signs.T @ projected)
    return rotation


def _sample(config: HeadsConfig, embeddings: NDArray[np.floating], seed: int) -> _Sample:
    """At most FIT_ROWS rows, drawn without replacement, and their mean."""
    if embeddings.ndim != 2 or embeddings.shape[1] != config.embedding_dim:
        raise CodeShapeError(
            f"heads need embeddings of D={config.embedding_dim}, got {embeddings.shape}"
        )
    rows = np.arange(len(embeddings))
    if len(rows) > FIT_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, FIT_ROWS, replace=False))
    vectors = np.asarray(embeddings[rows], dtype=np.float32)
    mean = vectors.mean(axis=0)
    return _Sample(mean, vectors - mean)


def _rotation(centred: FloatArray, n_bits: int, seed: int) -> FloatArray:
    """The weight (K, D): principal directions, turned, scaled to PRE_TANH_RMS."""
    points = torch.from_numpy(centred)
    covariance = (points.T @ points / len(points)).double()
    directions = torch.linalg.eigh(covariance).eigenvectors  # (D, D), ascending variance
    principal = directions.flip(1)[:, :n_bits].float()  # (D, P)
    weight = iterative_quantisation(points @ principal, n_bits, seed) @ principal.T
    rms = float((points @ weight.T).square().mean().sqrt())
    return np.asarray((weight * (PRE_TANH_RMS / max(rms, 1e-12))).numpy())


def _head(config: HeadsConfig, weight: FloatArray, sample: _Sample, seed: int) -> ModalityHead:
    """One modality's head: centred by its mean, codebooks by k-means in each sub-space."""
    codebooks = fit_codebooks(config, np.tanh(sample.centred @ weight.T), seed)
    return ModalityHead(weight, -weight @ sample.mean, codebooks)


def _nearest_orthonormal(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return torch.mm(left, right)
