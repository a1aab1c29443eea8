import numpy as np
import pytest
import torch
from torch.nn import functional

from model.core.errors import CodeShapeError
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import Heads
from model.heads.product_quantiser import decode
from model.training.hash_model import HashModel
from model.training.heads_training import train_heads
from model.training.options import CodebookLearning, HeadsOptions

DIM, IMAGES = 24, 200
SMALL = HeadsOptions(n_bits=16, n_subspaces=2, n_centroids=8, batch_size=100, epochs=2)
OWNERS = np.repeat(np.arange(IMAGES), 2)


def pairs(seed: int = 0) -> dict[Modality, FloatArray]:
    rng = np.random.default_rng(seed)
    images = l2_normalised(rng.standard_normal((IMAGES, DIM)).astype(np.float32))
    noise = 0.1 * rng.standard_normal((len(OWNERS), DIM))
    texts = l2_normalised((images[OWNERS] + noise).astype(np.float32))
    return {Modality.IMAGE: images, Modality.TEXT: texts}


def model_of(**options: object) -> tuple[HashModel, dict[Modality, torch.Tensor]]:
    told = HeadsOptions(**{**SMALL.model_dump(), **options})
    data = pairs()
    model = HashModel(fit_heads(told.config(DIM), data, 0), told)
    return model, {m: torch.from_numpy(rows) for m, rows in data.items()}


def backward(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def quantisation_error(heads: Heads, data: dict[Modality, FloatArray]) -> float:
    """Mean squared distance of hash-space vectors from what their codes decode to."""
    errors = []
    for modality, rows in data.items():
        vectors = heads.hash_space(modality, rows)
        decoded = decode(heads.heads[modality].codebooks, heads.encode(modality, rows).pq_codes)
        errors.append(np.square(vectors - decoded).mean())
    return float(np.mean(errors))


@pytest.mark.parametrize("learning", list(CodebookLearning))
def test_shared_codebooks_are_one_array_for_both_modalities(learning: CodebookLearning) -> None:
    options = SMALL.model_copy(update={"shared_codebooks": True, "codebooks": learning})
    heads = train_heads(pairs(), OWNERS, options).heads
    shared = {m: heads[m].codebooks for m in Modality}
    assert (shared[Modality.IMAGE] == shared[Modality.TEXT]).all()
    model, _ = model_of(shared_codebooks=True)
    assert model.codebooks["image"] is model.codebooks["text"]


def test_codebooks_of_their_own_differ() -> None:
    heads = train_heads(pairs(), OWNERS, SMALL).heads
    assert (heads[Modality.IMAGE].codebooks != heads[Modality.TEXT].codebooks).any()


def test_refining_codebooks_lowers_the_distance_to_what_codes_decode_to() -> None:
    model, data = model_of(codebooks="gradient", ranking=0, sign_ranking=0, beta_1=0, beta_2=1)
    learned = quantisation_error(model.heads(), pairs())
    with torch.no_grad():  # away from the k-means that they start from
        for books in model.codebooks.values():
            books.add_(torch.randn(books.shape, generator=torch.Generator().manual_seed(1)) / 3)
    moved = quantisation_error(model.heads(), pairs())
    optimiser = torch.optim.Adam(model.codebooks.parameters(), lr=0.02)
    batch = {Modality.IMAGE: data[Modality.IMAGE], Modality.TEXT: data[Modality.TEXT][::2]}
    for _ in range(80):
        optimiser.zero_grad()
        backward(model.loss(batch, torch.arange(IMAGES)))
        optimiser.step()
    refined = quantisation_error(model.heads(), pairs())
    assert moved > 1.3 * learned
    assert refined < 1.1 * learned


def test_kmeans_codebooks_take_no_gradient_and_refined_ones_do() -> None:
    for learning, takes in (("kmeans", False), ("gradient", True)):
        model, data = model_of(codebooks=learning)
        batch = {Modality.IMAGE: data[Modality.IMAGE][:50], Modality.TEXT: data[Modality.TEXT][:50]}
        backward(model.loss(batch, torch.arange(50)))
        assert [books.grad is not None for books in model.codebooks.values()] == [takes, takes]


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    weights = {"ranking": 0.5, "sign_ranking": 2.0, "beta_1": 3.0, "beta_2": 0.7}
    values = {}
    for name in (*weights, "all"):
        own = weights if name == "all" else {**dict.fromkeys(weights, 0.0), name: weights[name]}
        model, data = model_of(**own)
        texts = data[Modality.TEXT][::2]
        batch = {Modality.IMAGE: data[Modality.IMAGE], Modality.TEXT: texts}
        values[name] = float(model.loss(batch, torch.arange(IMAGES)).detach())
    whole = values.pop("all")
    assert whole == pytest.approx(sum(values.values()), rel=1e-5)


def test_the_ranking_of_signs_is_infonce_over_the_share_of_equal_bits() -> None:
    model, data = model_of(ranking=0.0, sign_ranking=1.0, beta_1=0.0, beta_2=0.0)
    batch = {Modality.IMAGE: data[Modality.IMAGE][:9], Modality.TEXT: data[Modality.TEXT][:18:2]}
    signs = {m: torch.where(model.hash_space(m, batch[m]) > 0, 1.0, -1.0) for m in Modality}
    logits = signs[Modality.IMAGE] @ signs[Modality.TEXT].T / 16 / model.options.temperature
    target = torch.arange(9)
    expected = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    found = model.loss(batch, torch.arange(9))
    assert float(found.detach()) == pytest.approx(float(expected.detach()) / 2, rel=1e-5)


@pytest.mark.parametrize("n_bits", [32, 64, 128, 256])
def test_every_width_trains_more_bits_than_dimensions_included(n_bits: int) -> None:
    options = HeadsOptions(n_bits=n_bits, n_subspaces=4, n_centroids=16, epochs=1)
    heads = train_heads(pairs(), OWNERS, options)
    assert heads.encode(Modality.TEXT, pairs()[Modality.TEXT]).hash_codes.shape[1] == n_bits // 8


def test_a_run_repeats_with_its_seed() -> None:
    first, second = (train_heads(pairs(), OWNERS, SMALL).digest for _ in range(2))
    other = train_heads(pairs(), OWNERS, SMALL.model_copy(update={"seed": 1})).digest
    assert first == second
    assert first != other


def test_more_centroids_than_a_byte_holds_are_refused() -> None:
    with pytest.raises(CodeShapeError, match="1 to 256 centroids, got L=257"):
        HeadsOptions(n_centroids=257).config(DIM)
