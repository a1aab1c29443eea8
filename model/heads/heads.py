"""Inference of the heads: hash-space vectors, hash codes and PQ codes. Numpy alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from model.core.errors import CheckpointError, CodeShapeError
from model.core.types import ByteArray, FloatArray, Frozen, Modality
from model.core.vectors import pack_signs
from model.heads.product_quantiser import assign

MAX_CENTROIDS = 256
ENCODE_ROWS = 4096
PARTS = ("weight", "bias", "codebooks")


class HeadsConfig(Frozen):
    """Widths of the heads: D, K, M and L."""

    embedding_dim: int
    n_bits: int = 64
    n_subspaces: int = 8
    n_centroids: int = MAX_CENTROIDS

    @model_validator(mode="after")
    def _fits(self) -> "HeadsConfig":
        if self.embedding_dim < 1:
            raise CodeShapeError(f"heads need D of at least 1, got D={self.embedding_dim}")
        if self.n_bits < 8 or self.n_bits % 8:
            raise CodeShapeError(f"hash codes need a multiple of 8 bits, got K={self.n_bits}")
        if self.n_subspaces < 1 or self.n_bits % self.n_subspaces:
            raise CodeShapeError(
                f"M must divide K={self.n_bits} into equal parts, got M={self.n_subspaces}"
            )
        if not 1 <= self.n_centroids <= MAX_CENTROIDS:
            raise CodeShapeError(
                f"a PQ byte holds 1 to {MAX_CENTROIDS} centroids, got L={self.n_centroids}"
            )
        return self

    @property
    def sub_width(self) -> int:
        """S, the width of a sub-space."""
        return self.n_bits // self.n_subspaces

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a modality's head."""
        return {
            "weight": (self.n_bits, self.embedding_dim),
            "bias": (self.n_bits,),
            "codebooks": (self.n_subspaces, self.n_centroids, self.sub_width),
        }


class Codes(NamedTuple):
    """What Stage I keeps of an item: packed hash bits (N, K/8) and PQ bytes (N, M)."""

    hash_codes: ByteArray
    pq_codes: ByteArray


@dataclass(frozen=True)
class ModalityHead:
    """One modality's linear map to the hash space and its codebooks."""

    weight: FloatArray  # (K, D)
    bias: FloatArray  # (K,)
    codebooks: FloatArray  # (M, L, S)

    @cached_property
    def scoring_books(self) -> FloatArray:
        """The codebooks (M, L, S) with the centroids side by side in memory, for look-up tables.

        Products of whole rows of centroids: four times faster than a short sum for each.
        """
        books = np.ascontiguousarray(self.codebooks.transpose(2, 0, 1)).transpose(1, 2, 0)
        return np.asarray(books, dtype=np.float32)

    def hash_space(self, embeddings: NDArray[np.floating]) -> FloatArray:
        """Vectors (N, K) in (-1, 1): tanh of the linear map."""
        linear = np.asarray(embeddings, dtype=np.float32) @ self.weight.T + self.bias
        return np.asarray(np.tanh(linear), dtype=np.float32)

    def query_hash_space(self, embeddings: FloatArray) -> FloatArray:
        """Vectors (..., K) of embeddings (..., D), each bit for bit whoever shares its batch.

        A matrix product's last bits depend on the number of rows; a row-wise sum's do not.
        """
        linear = np.einsum("kd,...d->...k", self.weight, embeddings, dtype=np.float32)
        return np.asarray(np.tanh(linear + self.bias), dtype=np.float32)


@dataclass(frozen=True)
class Heads:
    """Both modalities' heads: one hash space, a codebook each."""

    config: HeadsConfig
    heads: Mapping[Modality, ModalityHead]

    def __post_init__(self) -> None:
        """Check every array against the config.

        Raises:
            CodeShapeError: an array has another shape than the config says.
        """
        for modality, head in self.heads.items():
            for name, shape in self.config.shapes().items():
                got = getattr(head, name).shape
                if got != shape:
                    raise CodeShapeError(f"{modality} {name} needs shape {shape}, got {got}")

    def hash_space(self, modality: Modality, embeddings: NDArray[np.floating]) -> FloatArray:
        """Continuous hash-space vectors (N, K) of embeddings (N, D)."""
        self._check_width(embeddings)
        return self.heads[modality].hash_space(embeddings)

    def encode(self, modality: Modality, embeddings: NDArray[np.floating]) -> Codes:
        """Hash codes (N, K/8) and PQ codes (N, M) of embeddings (N, D), in bounded memory."""
        self._check_width(embeddings)
        config, head = self.config, self.heads[modality]
        codes = Codes(
            np.empty((len(embeddings), config.n_bits // 8), dtype=np.uint8),
            np.empty((len(embeddings), config.n_subspaces), dtype=np.uint8),
        )
        for start in range(0, len(embeddings), ENCODE_ROWS):
            block = slice(start, start + ENCODE_ROWS)
            vectors = head.hash_space(embeddings[block])
            codes.hash_codes[block] = pack_signs(vectors)
            codes.pq_codes[block] = assign(head.codebooks, vectors)
        return codes

    @property
    def digest(self) -> str:
        """sha256 over the config and every array, in a fixed order."""
        sha = hashlib.sha256(self.config.model_dump_json().encode())
        for name, array in sorted(self._arrays().items()):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write one safetensors file; its metadata holds the config."""
        arrays = {name: np.ascontiguousarray(a) for name, a in self._arrays().items()}
        path.write_bytes(save(arrays, metadata={"config": self.config.model_dump_json()}))

    @classmethod
    def load(cls, path: Path) -> "Heads":
        """Heads from a file that `save` wrote.

        Raises:
            CheckpointError: the file cannot be read or its config does not hold.
            CodeShapeError: an array does not fit the config.
        """
        try:
            with safe_open(path, framework="np") as file:
                config = HeadsConfig.model_validate_json((file.metadata() or {})["config"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(config, {m: _head(arrays, m) for m in Modality})
        except (OSError, SafetensorError, KeyError, ValidationError) as error:
            raise CheckpointError(f"{path} holds no heads: {error}") from error

    def _arrays(self) -> dict[str, FloatArray]:
        return {
            f"{modality}.{part}": getattr(head, part)
            for modality, head in self.heads.items()
            for part in PARTS
        }

    def _check_width(self, embeddings: NDArray[np.floating]) -> None:
        if embeddings.ndim != 2 or embeddings.shape[1] != self.config.embedding_dim:
            raise CodeShapeError(
                f"heads need embeddings of D={self.config.embedding_dim}, got {embeddings.shape}"
            )


def _head(arrays: Mapping[str, FloatArray], modality: Modality) -> ModalityHead:
    return ModalityHead(*(arrays[f"{modality}.{part}"] for part in PARTS))
