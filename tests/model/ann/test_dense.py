import numpy as np

from model.ann import oracle
from model.ann.faiss_door import FlatIndex, kmeans
from model.ann.halves import widened


def test_flat_search_finds_the_highest_inner_products() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((500, 16)).astype(np.float32)
    queries = rng.standard_normal((7, 16)).astype(np.float32)
    scores, rows = FlatIndex(vectors).search(queries, 10)
    expected_scores, expected_rows = oracle.inner_product_search(queries, vectors, 10)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-5)


def test_kmeans_finds_the_means_of_clusters_far_apart() -> None:
    rng = np.random.default_rng(4)
    corners = np.array([[0, 0], [50, 0], [0, 50]], dtype=np.float32)
    points = np.repeat(corners, 100, axis=0) + rng.normal(0, 0.1, (300, 2)).astype(np.float32)
    centroids = kmeans(points, 3, seed=1)
    means = points.reshape(3, 100, 2).mean(axis=1)
    found = centroids[np.lexsort(centroids.round().T)]
    np.testing.assert_allclose(found, means[np.lexsort(means.round().T)], atol=1e-3)


def test_kmeans_repeats_with_its_seed_and_differs_with_another() -> None:
    points = np.random.default_rng(5).standard_normal((400, 4)).astype(np.float32)
    np.testing.assert_array_equal(kmeans(points, 16, seed=1), kmeans(points, 16, seed=1))
    assert not np.array_equal(kmeans(points, 16, seed=1), kmeans(points, 16, seed=2))


def test_kmeans_of_fewer_vectors_than_centroids_repeats_the_vectors() -> None:
    points = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    assert kmeans(points, 5, seed=0).tolist() == [[1, 2], [3, 4], [1, 2], [3, 4], [1, 2]]


def test_every_half_is_widened_to_its_own_value() -> None:
    halves = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    np.testing.assert_array_equal(widened(halves), halves.astype(np.float32))


def test_widening_takes_read_only_and_strided_arrays() -> None:
    halves = np.arange(12, dtype=np.float16).reshape(3, 4)
    halves.flags.writeable = False
    np.testing.assert_array_equal(widened(halves.T), halves.T.astype(np.float32))


def test_single_floats_are_widened_without_a_copy() -> None:
    floats = np.ones(3, dtype=np.float32)
    assert widened(floats) is floats
