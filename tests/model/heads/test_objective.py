import numpy as np
import pytest
import torch

from model.heads.heads import HeadsConfig, ModalityHead
from model.heads.objective import (
    HashLayer,
    discrepancy_loss,
    encoding_loss,
    nearest_centroids,
)
from model.heads.product_quantiser import assign, decode


def test_a_layer_starts_as_the_head_it_was_given() -> None:
    rng = np.random.default_rng(0)
    config = HeadsConfig(embedding_dim=6, n_bits=8, n_subspaces=2, n_centroids=4)
    head = ModalityHead(
        rng.standard_normal((8, 6)).astype(np.float32),
        rng.standard_normal(8).astype(np.float32),
        np.zeros((2, 4, 4), np.float32),
    )
    embeddings = rng.standard_normal((5, 6)).astype(np.float32)
    found = HashLayer(config, head)(torch.from_numpy(embeddings)).detach().numpy()
    assert found == pytest.approx(head.hash_space(embeddings), abs=1e-6)


def test_nothing_is_lost_where_the_hash_space_keeps_every_cosine() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    assert float(discrepancy_loss(embeddings, 3.0 * embeddings)) == pytest.approx(0, abs=1e-12)


def test_discrepancy_by_hand() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    hash_space = torch.tensor([[0.5, 0.0], [0.5, 0.0]])  # cosine 1 where it was 0
    assert float(discrepancy_loss(embeddings, hash_space)) == pytest.approx((1 + 1) / 4)


def test_encoding_loss_by_hand() -> None:
    hash_space = torch.tensor([[0.5, -0.2]])
    decoded = torch.tensor([[0.4, 0.0]])
    signs = ((0.5 - 1) ** 2 + (-0.2 + 1) ** 2) / 2
    centroids = (0.1**2 + 0.2**2) / 2
    assert float(encoding_loss(hash_space, decoded)) == pytest.approx(signs + centroids)


def test_nearest_centroids_are_what_codes_decode_to() -> None:
    rng = np.random.default_rng(1)
    books = rng.standard_normal((4, 16, 3)).astype(np.float32)
    vectors = rng.standard_normal((50, 12)).astype(np.float32)
    found = nearest_centroids(torch.from_numpy(books), torch.from_numpy(vectors)).numpy()
    assert (found == decode(books, assign(books, vectors))).all()
