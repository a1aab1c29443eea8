import numpy as np
import pytest
import torch

from model.heads.heads import HeadsConfig, ModalityHead
from model.heads.objective import (
    HashLayer,
    discrepancy_loss,
    encoding_loss,
    nearest_centroids,
    straight_through,
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


def test_signs_pass_the_gradient_of_the_vectors_through() -> None:
    vectors = torch.tensor([[0.5, -0.2, 0.0]], requires_grad=True)
    signs = straight_through(vectors)
    assert signs.detach().tolist() == [[1.0, -1.0, -1.0]]
    (signs * torch.tensor([[2.0, 3.0, 4.0]])).sum().backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    assert vectors.grad.tolist() == [[2.0, 3.0, 4.0]]


def test_a_step_along_the_encoding_loss_moves_the_nearest_centroid_alone() -> None:
    books = torch.tensor([[[0.0], [1.0]]], requires_grad=True)  # M=1, L=2, S=1
    vectors = torch.tensor([[0.8], [0.6]])
    loss = encoding_loss(vectors, nearest_centroids(books, vectors))
    loss.backward()  # type: ignore[no-untyped-call]
    assert books.grad is not None
    # d/dc mean (x - c)² of the two vectors, both nearer to 1: (2 · 0.2 + 2 · 0.4) / 2
    assert books.grad.flatten().tolist() == pytest.approx([0.0, 0.6])
