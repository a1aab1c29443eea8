import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.ann import oracle
from model.core.errors import CodeShapeError
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_codebooks, fit_heads, iterative_quantisation
from model.heads.heads import HeadsConfig
from model.heads.product_quantiser import decode

CONFIG = HeadsConfig(embedding_dim=32, n_bits=32, n_subspaces=4, n_centroids=16)


def clustered(seed: int, count: int, dim: int = 32) -> FloatArray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dim))
    points = centres[rng.integers(20, size=count)] + 0.3 * rng.standard_normal((count, dim))
    return l2_normalised(points.astype(np.float32))


def test_fitted_heads_repeat_with_their_seed() -> None:
    given_embeddings = {Modality.IMAGE: clustered(0, 300), Modality.TEXT: clustered(1, 200)}
    first, second, other = (fit_heads(CONFIG, given_embeddings, seed) for seed in (1, 1, 2))
    assert first.digest == second.digest
    assert first.digest != other.digest


def test_codes_keep_most_of_the_nearest_neighbours() -> None:
    items = clustered(2, 2000)
    heads = fit_heads(CONFIG, {Modality.IMAGE: items, Modality.TEXT: items}, seed=0)
    codes = heads.encode(Modality.IMAGE, items)
    queries = items[:50]
    _, exact = oracle.inner_product_search(queries, items, 10)
    _, near = oracle.hamming_search(codes.hash_codes[:50], codes.hash_codes, 200)
    decoded = decode(heads.heads[Modality.IMAGE].codebooks, codes.pq_codes)
    query_space = heads.hash_space(Modality.TEXT, queries)
    _, quantised = oracle.inner_product_search(query_space, decoded, 100)
    for found, floor in ((near, 0.95), (quantised, 0.9)):  # by chance 0.1 and 0.05
        kept = np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)])
        assert kept > floor


def test_a_constant_gap_between_the_modalities_leaves_no_trace_in_the_codes() -> None:
    images = clustered(3, 400)
    texts = images + np.linspace(-1, 1, 32, dtype=np.float32)
    heads = fit_heads(CONFIG, {Modality.IMAGE: images, Modality.TEXT: texts}, seed=0)
    image_space = heads.hash_space(Modality.IMAGE, images)
    text_space = heads.hash_space(Modality.TEXT, texts)
    np.testing.assert_allclose(image_space, text_space, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3, 15])
def test_a_gallery_smaller_than_a_codebook_is_coded_exactly(count: int) -> None:
    items = clustered(4, count)
    heads = fit_heads(CONFIG, {Modality.IMAGE: items}, seed=0)
    codes = heads.encode(Modality.IMAGE, items)
    decoded = decode(heads.heads[Modality.IMAGE].codebooks, codes.pq_codes)
    vectors = heads.hash_space(Modality.IMAGE, items)
    np.testing.assert_allclose(decoded, vectors, atol=1e-3)


def test_one_modality_lends_its_head_to_the_other() -> None:
    heads = fit_heads(CONFIG, {Modality.TEXT: clustered(5, 100)}, seed=0)
    assert heads.heads[Modality.IMAGE] is heads.heads[Modality.TEXT]


@settings(max_examples=15)
@given(n_bits=st.integers(1, 24), dim=st.integers(1, 24))
def test_the_map_is_orthonormal_on_its_shorter_side(n_bits: int, dim: int) -> None:
    points = torch.randn(40, dim, generator=torch.Generator().manual_seed(0))
    rotation = iterative_quantisation(points, n_bits, seed=0).numpy()
    square = rotation @ rotation.T if n_bits <= dim else rotation.T @ rotation
    np.testing.assert_allclose(square, np.eye(len(square)), atol=1e-4)


def test_rotating_brings_points_nearer_to_their_signs_than_random_rotations() -> None:
    points = torch.randn(500, 16, generator=torch.Generator().manual_seed(1)) * torch.linspace(
        0.1, 2, 16
    )
    turned = points @ iterative_quantisation(points, 16, seed=0).T

    def loss(values: torch.Tensor) -> float:
        return float((values - values.sign()).square().mean())

    for seed in range(5):
        noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed))
        assert loss(turned) < 0.9 * loss(points @ torch.linalg.qr(noise).Q)


def test_more_bits_than_dimensions_fit_too() -> None:
    config = HeadsConfig(embedding_dim=8, n_bits=64)
    heads = fit_heads(config, {Modality.IMAGE: clustered(6, 300, dim=8)}, seed=0)
    signs = heads.hash_space(Modality.IMAGE, clustered(6, 300, dim=8)) > 0
    assert 0.2 < signs.mean() < 0.8


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(CodeShapeError, match="at least one embedding"):
        fit_heads(CONFIG, {Modality.IMAGE: np.empty((0, 32), dtype=np.float32)}, seed=0)


def test_embeddings_of_another_width_are_refused() -> None:
    with pytest.raises(CodeShapeError, match=r"D=32, got \(5, 31\)"):
        fit_heads(CONFIG, {Modality.IMAGE: np.ones((5, 31), dtype=np.float32)}, seed=0)


def test_codebooks_are_those_of_each_subspace_alone() -> None:
    config = HeadsConfig(embedding_dim=24, n_bits=16, n_subspaces=2, n_centroids=8)
    vectors = np.random.default_rng(3).standard_normal((300, 16)).astype(np.float32)
    both = fit_codebooks(config, vectors, seed=0)
    moved = np.concatenate([vectors[:, :8], vectors[:, 8:] + 5], axis=1)
    found = fit_codebooks(config, moved, seed=0)
    assert (found[0] == both[0]).all()
    assert found[1].mean() == pytest.approx(both[1].mean() + 5, abs=0.1)
