from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ann import oracle
from model.ann.faiss_door import GPU_MAX_K, HammingIndex, has_gpu
from model.core.errors import ArtifactError, CodeShapeError
from model.core.types import ByteArray, RankArray, RowArray

faiss = pytest.importorskip("faiss")


def tied_codes(seed: int, count: int, width: int) -> ByteArray:
    """Codes of few distinct values, so that most distances are shared by many rows."""
    return np.random.default_rng(seed).integers(0, 4, (count, width)).astype(np.uint8)


class ScramblingGpu:
    """A GPU's list: right distances, and of equal ones the highest rows, in a wild order."""

    def __init__(self, codes: ByteArray) -> None:
        self.codes = codes

    def search(self, queries: ByteArray, k: int) -> tuple[RankArray, RowArray]:
        distances, rows = oracle.hamming_search(queries, self.codes[::-1], k)
        return distances, len(self.codes) - 1 - rows


def test_codes_come_back_by_distance_and_equal_ones_by_lower_row() -> None:
    codes = np.array([[0b0000_0111], [0b0000_0001], [0b0000_0000], [0b0000_0010]], dtype=np.uint8)
    distances, rows = HammingIndex.from_codes(codes).search(np.zeros((1, 1), np.uint8), 4)
    assert rows.tolist() == [[2, 1, 3, 0]]
    assert distances.tolist() == [[0, 1, 1, 3]]


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 80),
    width=st.integers(1, 5),
    n_queries=st.integers(1, 5),
    data=st.data(),
)
def test_search_equals_the_oracle_with_ties_at_the_cut(
    seed: int, count: int, width: int, n_queries: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, count))
    codes, queries = tied_codes(seed, count, width), tied_codes(seed + 1, n_queries, width)
    distances, rows = HammingIndex.from_codes(codes).search(queries, k)
    expected_distances, expected_rows = oracle.hamming_search(queries, codes, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(distances, expected_distances)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9000))
def test_search_equals_the_oracle_over_thousands_of_candidates(seed: int, k: int) -> None:
    codes, queries = tied_codes(seed, 9000, 8), tied_codes(seed + 1, 3, 8)
    _, rows = HammingIndex.from_codes(codes).search(queries, k)
    np.testing.assert_array_equal(rows, oracle.hamming_search(queries, codes, k)[1])


def test_wide_codes_searched_in_small_blocks_give_what_single_queries_give() -> None:
    codes = tied_codes(5, 3000, 64)
    queries = tied_codes(6, 50, 64)
    index = HammingIndex.from_codes(codes)
    _, together = index.search(queries, 2900)
    alone = np.concatenate([index.search(query[None], 2900)[1] for query in queries])
    np.testing.assert_array_equal(together, alone)


def test_a_gallery_smaller_than_k_gives_all_it_has() -> None:
    distances, rows = HammingIndex.from_codes(tied_codes(0, 3, 2)).search(tied_codes(1, 2, 2), 10)
    assert rows.shape == distances.shape == (2, 3)
    assert np.sort(rows, axis=1).tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize(("count", "n_queries"), [(0, 2), (3, 0)])
def test_nothing_to_search_gives_empty_arrays(count: int, n_queries: int) -> None:
    index = HammingIndex.from_codes(np.empty((count, 1), dtype=np.uint8))
    distances, rows = index.search(np.empty((n_queries, 1), dtype=np.uint8), 5)
    assert rows.shape == distances.shape == (n_queries, count)


def test_a_saved_index_opens_with_the_same_codes(tmp_path: Path) -> None:
    codes = tied_codes(2, 40, 3)
    HammingIndex.from_codes(codes).save(tmp_path / "hash.faiss")
    opened = HammingIndex.load(tmp_path / "hash.faiss")
    assert (len(opened), opened.n_bits) == (40, 24)
    np.testing.assert_array_equal(opened.codes(), codes)
    np.testing.assert_array_equal(
        opened.search(codes[:5], 40)[1], oracle.hamming_search(codes[:5], codes, 40)[1]
    )


def test_a_file_of_other_bytes_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "hash.faiss").write_bytes(b"no index, only words and more words")
    with pytest.raises(ArtifactError, match=r"hash\.faiss"):
        HammingIndex.load(tmp_path / "hash.faiss")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"hash\.faiss"):
        HammingIndex.load(tmp_path / "hash.faiss")


def test_another_kind_of_binary_index_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hash.faiss"
    faiss.write_index_binary(faiss.IndexBinaryHNSW(16), str(path))
    with pytest.raises(ArtifactError, match="IndexBinaryHNSW"):
        HammingIndex.load(path)


@pytest.mark.parametrize("shape", [(2,), (2, 0), (2, 2, 2)])
def test_arrays_that_are_no_codes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CodeShapeError, match=r"\(N, K/8\)"):
        HammingIndex.from_codes(np.zeros(shape, dtype=np.uint8))


def test_queries_of_another_width_are_refused_with_both_widths() -> None:
    with pytest.raises(CodeShapeError, match=r"K=16.*\(1, 3\)"):
        HammingIndex.from_codes(tied_codes(0, 3, 2)).search(tied_codes(1, 1, 3), 1)


def test_a_single_query_leaves_the_callers_thread_count_alone() -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    HammingIndex.from_codes(tied_codes(0, 9, 2)).search(tied_codes(1, 1, 2), 3)
    after = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(before)
    assert after == 2


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([7, 2048, 2300]), data=st.data())
def test_a_gpu_list_is_brought_to_the_rule_whatever_its_ties(
    seed: int, count: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, count))
    codes, queries = tied_codes(seed, count, 4), tied_codes(seed + 1, 3, 4)
    index = HammingIndex.from_codes(codes)
    index._gpu = ScramblingGpu(codes)
    distances, rows = index.search(queries, k)
    expected_distances, expected_rows = oracle.hamming_search(queries, codes, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(distances, expected_distances)


def test_a_gpu_list_that_ends_among_ties_is_repaired_from_the_host() -> None:
    codes = np.zeros((GPU_MAX_K + 100, 1), dtype=np.uint8)
    index = HammingIndex.from_codes(codes)
    index._gpu = ScramblingGpu(codes)
    _, rows = index.search(np.zeros((2, 1), dtype=np.uint8), 3)
    assert rows.tolist() == [[0, 1, 2]] * 2


@pytest.mark.skipif(has_gpu(), reason="has a GPU")
def test_without_a_gpu_the_device_cuda_is_refused_when_asked_for_by_name() -> None:
    codes = tied_codes(0, 3, 2)
    with pytest.raises(ArtifactError, match="cuda"):
        HammingIndex.from_codes(codes, device="cuda")
    assert len(HammingIndex.from_codes(codes).on("cuda").search(codes, 2)[1]) == 3


class TwoGpus(ModuleType):
    """A faiss for GPUs as far as the door goes: it notes where an index is copied to."""

    StandardGpuResources = GpuIndexBinaryFlatConfig = SimpleNamespace
    IndexBinaryFlat = faiss.IndexBinaryFlat

    @staticmethod
    def get_num_gpus() -> int:
        return 2

    @staticmethod
    def GpuIndexBinaryFlat(_: object, index: object, config: SimpleNamespace) -> SimpleNamespace:  # noqa: N802 - as faiss has it
        return SimpleNamespace(index=index, device=config.device)


@pytest.mark.parametrize(("device", "ordinal"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_an_index_goes_to_the_gpu_that_was_named(
    device: str, ordinal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = HammingIndex.from_codes(tied_codes(0, 3, 2))
    monkeypatch.setattr("model.ann.faiss_door.faiss", TwoGpus("faiss"))
    assert index.on(device)._gpu.device == ordinal
    assert index.on("cpu")._gpu is None


def test_a_gpu_that_is_not_there_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    index = HammingIndex.from_codes(tied_codes(0, 3, 2))
    monkeypatch.setattr("model.ann.faiss_door.faiss", TwoGpus("faiss"))
    with pytest.raises(ArtifactError, match="cuda:0 to cuda:1 on this machine, got cuda:2"):
        index.on("cuda:2")


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no GPU")
@pytest.mark.parametrize("k", [1, 100, GPU_MAX_K, GPU_MAX_K + 1])
def test_the_gpu_equals_the_oracle(k: int) -> None:
    codes, queries = tied_codes(0, 20_000, 8), tied_codes(1, 9, 8)
    distances, rows = HammingIndex.from_codes(codes, device="cuda").search(queries, k)
    expected_distances, expected_rows = oracle.hamming_search(queries, codes, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(distances, expected_distances)
