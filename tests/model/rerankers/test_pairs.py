import numpy as np
import pytest

from model.core.errors import CodeShapeError
from model.core.types import FloatArray, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.heads.heads import Heads, HeadsConfig
from model.rerankers.pairs import NEIGHBOURS, SHARPNESS, SHORTLIST, PairBank
from model.rerankers.relationship import PairCosines, relationship
from model.rerankers.weights import DirectionWeights

DIM = 16


def unit(seed: int, count: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    return l2_normalised(rng.standard_normal((count, DIM)).astype(np.float32))


def heads_for(*embeddings: FloatArray) -> Heads:
    config = HeadsConfig(embedding_dim=DIM, n_bits=16, n_subspaces=2, n_centroids=8)
    return fit_heads(config, dict(zip(Modality, embeddings, strict=True)), 0)


def shares(cosines: FloatArray) -> FloatArray:
    weights = np.exp(SHARPNESS * cosines)
    return np.asarray(weights / weights.sum())


def test_an_expansion_is_the_mean_of_what_the_nearest_entries_are_paired_with() -> None:
    # Few enough entries for the shortlist to hold them all: the result is exact.
    n_images = SHORTLIST // 2
    images, texts = unit(0, n_images), unit(1, SHORTLIST)
    rng = np.random.default_rng(2)
    owners = rng.integers(-1, n_images, SHORTLIST)  # in no order, some without an image
    heads = heads_for(images, texts)
    bank = PairBank({Modality.IMAGE: images, Modality.TEXT: texts}, owners, heads)
    for modality, own, other in ((Modality.TEXT, texts, images), (Modality.IMAGE, images, texts)):
        query = unit(3, 1)[0]
        hash_space = heads.heads[modality].query_hash_space(query)
        found = bank.expand(modality, query, hash_space)
        partners, nearest, alike = np.zeros(DIM), np.zeros(DIM), np.zeros(DIM)
        best = np.argsort(-(own @ query))[:NEIGHBOURS]
        for row, share in zip(best, shares(own[best] @ query), strict=True):
            of = [owners[row]] if modality is Modality.TEXT else np.flatnonzero(owners == row)
            known = [at for at in of if at >= 0]
            alike += share * own[row]
            for at in known:
                partners += share / len(known) * other[at]
        best = np.argsort(-(other @ query))[:NEIGHBOURS]
        for row, share in zip(best, shares(other[best] @ query), strict=True):
            nearest += share * other[row]
        np.testing.assert_allclose(found.partners, partners, atol=1e-5)
        np.testing.assert_allclose(found.nearest, nearest, atol=1e-5)
        np.testing.assert_allclose(found.alike, alike, atol=1e-5)
        stored = bank.contexts(modality, query[None].astype(np.float16), hash_space[None])
        np.testing.assert_allclose(stored[0], np.stack(found), atol=2e-3)


def test_an_entry_of_the_bank_leads_to_its_partner() -> None:
    # 4,000 entries: more than the shortlist, so the codes have to find it.
    images = unit(0, 4000)
    texts = l2_normalised(images + 0.2 * unit(1, 4000))
    heads = heads_for(images, texts)
    bank = PairBank({Modality.IMAGE: images, Modality.TEXT: texts}, np.arange(4000), heads)
    for row in range(0, 4000, 500):
        query = texts[row]
        found = bank.expand(
            Modality.TEXT, query, heads.heads[Modality.TEXT].query_hash_space(query)
        )
        assert (images @ found.partners).argmax() == row


def test_a_bank_without_any_pair_says_nothing_about_partners() -> None:
    images, texts = unit(0, 30), unit(1, 50)
    heads = heads_for(images, texts)
    bank = PairBank({Modality.IMAGE: images, Modality.TEXT: texts}, np.full(50, -1), heads)
    for modality in Modality:
        query = unit(4, 1)[0]
        found = bank.expand(modality, query, heads.heads[modality].query_hash_space(query))
        assert not found.partners.any()
        assert found.nearest.any()


def test_a_text_without_its_place_is_refused() -> None:
    images, texts = unit(0, 30), unit(1, 50)
    with pytest.raises(CodeShapeError, match="50 texts, 49 images"):
        PairBank(
            {Modality.IMAGE: images, Modality.TEXT: texts},
            np.zeros(49, np.int64),
            heads_for(images, texts),
        )


def test_what_the_pairs_say_is_added_to_the_score() -> None:
    cosines = np.array([0.5, 0.25], np.float32)
    lists = np.array([[0.5, 0.25]] * 2, np.float16)
    weights = DirectionWeights(expansion=2.0, feedback=-0.5)
    pairs = PairCosines(np.array([0.25, 0.5], np.float32), np.array([1.0, 0.0], np.float32))
    without, found = (relationship(cosines, lists, weights, p) for p in (None, pairs))
    assert found.expansion.tolist() == [0.0, 1.0]
    assert without.expansion.tolist() == [0.0, 0.0]
    np.testing.assert_allclose(found.scores - without.scores, found.expansion, atol=1e-6)
