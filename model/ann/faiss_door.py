"""The only door to faiss: Hamming search, exact flat search and k-means.

Order is (distance, row) everywhere, ties at the cut included, whatever the device and the
number of threads: see `oracle.py` for the slow twins.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from model.core.errors import ArtifactError, CodeShapeError
from model.core.types import ByteArray, FloatArray, RankArray, RowArray

GPU_MAX_K = 2048
COUNTING_BYTES = 64 << 20


def set_threads(count: int) -> None:
    """Let faiss use `count` threads when called from the calling thread."""
    faiss.omp_set_num_threads(count)


def has_gpu() -> bool:
    """Whether this faiss was built for GPUs and sees one."""
    return hasattr(faiss, "GpuIndexBinaryFlat") and faiss.get_num_gpus() > 0


@contextmanager
def _threads_for(n_queries: int) -> Iterator[None]:
    """One thread for one query: waking a pool costs more than the scan of 100,000 codes."""
    before = faiss.omp_get_max_threads()
    if n_queries > 1 or before == 1:
        yield
        return
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class HammingIndex:
    """Exact Hamming search over packed codes (N, K/8), on the CPU or a GPU."""

    def __init__(self, index: faiss.IndexBinaryFlat, device: str = "cpu") -> None:
        self._index: Any = index
        # Counting sort by distance: exact on ties, and several times faster than a heap for
        # thousands of candidates.
        index.use_heap = False  # type: ignore[attr-defined]
        self._gpu: Any = _on_gpu(index, device) if device.startswith("cuda") else None

    @classmethod
    def from_codes(cls, codes: ByteArray, device: str = "cpu") -> "HammingIndex":
        """An index over codes (N, K/8), row i for code i."""
        if codes.ndim != 2 or codes.dtype != np.uint8 or not codes.shape[1]:
            raise CodeShapeError(
                f"hash codes need a uint8 array (N, K/8), got {codes.dtype} {codes.shape}"
            )
        index = faiss.IndexBinaryFlat(8 * codes.shape[1])
        index.add(np.ascontiguousarray(codes))
        return cls(index, device)

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "HammingIndex":
        """An index from a file that `save` wrote.

        Raises:
            ArtifactError: the file is not there or holds no flat binary index.
        """
        try:
            index = faiss.read_index_binary(str(path))
        except RuntimeError as error:
            raise ArtifactError(f"{path} is no faiss binary index: {_reason(error)}") from error
        if not isinstance(index, faiss.IndexBinaryFlat):
            raise ArtifactError(f"{path} needs a flat binary index, got {type(index).__name__}")
        return cls(index, device)

    def on(self, device: str) -> "HammingIndex":
        """The same codes searched on a device: on the CPU where this faiss has no GPU."""
        return HammingIndex(self._index, device if has_gpu() else "cpu")

    def save(self, path: Path) -> None:
        """Write the index as faiss writes an IndexBinaryFlat."""
        faiss.write_index_binary(self._index, str(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def n_bits(self) -> int:
        """K, the bits of a code."""
        return int(self._index.d)

    def codes(self) -> ByteArray:
        """A copy (N, K/8) of the codes in row order."""
        return self.codes_of(np.arange(len(self)))

    def codes_of(self, rows: NDArray[np.integer]) -> ByteArray:
        """A copy (C, K/8) of the codes of some rows."""
        width = self.n_bits // 8
        if not len(self):
            return np.empty((0, width), np.uint8)
        # A view of the index's own memory, which lives as long as this call.
        flat = faiss.rev_swig_ptr(self._index.xb.data(), len(self) * width)
        return np.asarray(flat.reshape(len(self), width)[rows], dtype=np.uint8)

    def subset(self, rows: NDArray[np.integer]) -> "HammingIndex":
        """An index over some rows, in host memory; its row i is the i-th of these."""
        return HammingIndex.from_codes(self.codes_of(rows))

    def search(self, codes: ByteArray, k: int) -> tuple[RankArray, RowArray]:
        """Distances (Q, k) and rows (Q, k) of the nearest codes, by (distance, row).

        A gallery smaller than k gives all it has.

        Raises:
            CodeShapeError: the queries' width is not the index's.
        """
        if codes.ndim != 2 or codes.shape[1] * 8 != self.n_bits:
            raise CodeShapeError(f"queries need K={self.n_bits} bits, got codes {codes.shape}")
        k = min(k, len(self))
        if not k or not len(codes):
            return np.empty((len(codes), k), np.int32), np.empty((len(codes), k), np.int64)
        codes = np.ascontiguousarray(codes)
        return self._scan(codes, k) if self._gpu is None else self._scan_gpu(codes, k)

    def search_within(
        self, codes: ByteArray, k: int, within: ByteArray
    ) -> tuple[RankArray, RowArray]:
        """The same among the rows whose bit is set, lowest bit first; k is at most their number.

        Always on the host: indexes on a GPU take no such bits.
        """
        # faiss reads the bits where they lie, so they have to outlive the search.
        selector = faiss.IDSelectorBitmap(within)  # type: ignore[call-arg, arg-type]
        params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        return self._scan(np.ascontiguousarray(codes), k, params)

    def _scan(
        self,
        codes: ByteArray,
        k: int,
        params: Any = None,  # noqa: ANN401 - faiss has no types
    ) -> tuple[RankArray, RowArray]:
        # The counting scan holds one bucket of k ids per distance and query of a block.
        per_query = 8 * k * (self.n_bits + 1)
        self._index.query_batch_size = max(1, min(32, COUNTING_BYTES // per_query))
        with _threads_for(len(codes)):
            distances, rows = self._index.search(codes, k, params=params)
        return distances, rows

    def _scan_gpu(self, codes: ByteArray, k: int) -> tuple[RankArray, RowArray]:
        """The GPU's answer where it is provably the rule's, the host's scan elsewhere.

        The GPU promises no order among equal distances. Where its list runs past the cut's
        distance, every tie at the cut is in it and sorting settles the order.
        """
        reach = min(GPU_MAX_K, len(self))
        if k > reach:
            return self._scan(codes, k)
        distances, rows = self._gpu.search(codes, reach)
        order = np.lexsort((rows, distances), axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
        unsure = (distances[:, k - 1] == distances[:, -1]) & (reach < len(self))
        distances, rows = distances[:, :k].astype(np.int32), rows[:, :k]
        if unsure.any():
            distances[unsure], rows[unsure] = self._scan(codes[unsure], k)
        return distances, rows


class FlatIndex:
    """Exact inner-product search of dense vectors: the yardstick of the benchmarks."""

    def __init__(self, vectors: FloatArray) -> None:
        self._index = faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(np.ascontiguousarray(vectors, dtype=np.float32))

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, RowArray]:
        """Scores and rows (Q, k), highest inner product first."""
        with _threads_for(len(queries)):
            scores, rows = self._index.search(np.ascontiguousarray(queries, np.float32), k)
        return scores, rows


def kmeans(vectors: FloatArray, n_centroids: int, seed: int, *, iterations: int = 20) -> FloatArray:
    """Centroids (L, S) of vectors (N, S); a seed makes them repeat.

    Fewer vectors than centroids: the vectors themselves, repeated in order.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(vectors) <= n_centroids:
        return vectors[np.arange(n_centroids) % len(vectors)]
    trainer = faiss.Kmeans(
        vectors.shape[1], n_centroids, niter=iterations, seed=seed, min_points_per_centroid=1
    )
    trainer.train(vectors)
    return np.asarray(trainer.centroids, dtype=np.float32).copy()


def _on_gpu(index: faiss.IndexBinaryFlat, device: str) -> object:
    """The index's copy on the GPU of this name, cuda or cuda:n; unsafe for concurrent searches.

    Raises:
        ArtifactError: this faiss has no GPU to use, or none of this number.
    """
    if not has_gpu():
        raise ArtifactError("device cuda needs faiss-gpu and a GPU, found neither or one of them")
    ordinal, count = int(device.partition(":")[2] or 0), faiss.get_num_gpus()
    if ordinal >= count:
        raise ArtifactError(f"GPUs are cuda:0 to cuda:{count - 1} on this machine, got {device}")
    config = faiss.GpuIndexBinaryFlatConfig()
    config.device = ordinal
    return faiss.GpuIndexBinaryFlat(faiss.StandardGpuResources(), index, config)


def _reason(error: RuntimeError) -> str:
    """The last line of faiss's message, which starts with file and function names."""
    return str(error).strip().splitlines()[-1].rsplit(": ", 1)[-1]
