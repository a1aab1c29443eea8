from pathlib import Path

import numpy as np
import pytest
import torch

from model.core.types import Direction, Modality
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.objective import (
    alignment_loss,
    contrastive_loss,
    floor_loss,
    triplet_loss,
)
from model.rerankers.pillar.reranker import PillarReranker
from model.training.pillar_evaluation import evaluate_pillar
from model.training.pillar_options import PillarOptions
from model.training.pillar_pools import Pool, PreparedPool, QueryLists, cut_pools
from model.training.pillar_training import Batch, batch_loss, run_key, train_pillar
from model.training.state import RunState
from tests.model.training.pillar_world import sibling_split

SMALL = PillarOptions(width=32, heads=4, epochs=2, batch_size=64, learning_rate=2e-3)
I2T, T2I = Direction.IMAGE_TO_TEXT, Direction.TEXT_TO_IMAGE


def weights_of(reranker: PillarReranker) -> np.ndarray:
    parts = [p.detach().flatten() for d in Direction for p in reranker.networks[d].parameters()]
    return torch.cat(parts).numpy()


def test_training_makes_unseen_pairs_rank_better() -> None:
    options = SMALL.model_copy(update={"epochs": 3})
    trained = train_pillar([Pool(sibling_split(1))], options)
    found = evaluate_pillar(sibling_split(3), trained)
    assert found.pillar.rsum > found.base.rsum + 10
    assert found.averaged.rsum > found.bonus.rsum + 10


def test_a_killed_run_goes_on_to_the_weights_of_a_whole_one(tmp_path: Path) -> None:
    pools = [Pool(sibling_split(1, images=40)), Pool(sibling_split(2, images=40))]
    whole = weights_of(train_pillar(pools, SMALL))
    state = RunState(tmp_path / "state", run_key(pools, SMALL))

    def die(_: PillarReranker) -> str:
        raise KeyboardInterrupt

    calls = []

    def die_in_the_second_epoch(reranker: PillarReranker) -> str:
        calls.append(1)
        return die(reranker) if len(calls) == 2 else ""

    with pytest.raises(KeyboardInterrupt):
        train_pillar(pools, SMALL, state=state, watch=die_in_the_second_epoch)
    resumed = weights_of(train_pillar(pools, SMALL, state=state))
    np.testing.assert_array_equal(resumed, whole)


def test_a_run_is_named_by_its_pools_and_options() -> None:
    split = sibling_split(1, images=40)
    keys = {
        run_key([Pool(split)], SMALL),
        run_key([Pool(split, split.embeddings)], SMALL),
        run_key([Pool(split)], SMALL.model_copy(update={"seed": 1})),
        run_key([Pool(sibling_split(2, images=40))], SMALL),
    }
    assert len(keys) == 4


def test_the_loss_of_a_batch_is_the_weighted_sum_of_its_parts() -> None:
    config = PillarConfig(width=16, heads=2)
    pool = PreparedPool.of(Pool(sibling_split(4, images=40)), config)
    networks = PillarReranker.untrained(config, 0).networks
    options = PillarOptions(
        precision="float32", contrastive=0.5, triplet=2.0, hinge=3.0, alignment=7.0
    )
    queries = {T2I: np.array([3, 50, 9])}
    total = batch_loss(networks, Batch(pool, queries, (8,)), options).item()

    own = pool.top(T2I, queries[T2I])
    mapped = pool.mapped(T2I, own, np.random.default_rng((8,)))
    lists, there = pool.lists(T2I, own), pool.lists(I2T, mapped)
    scores, mapped_scores = networks[T2I].scores(*lists), networks[I2T].scores(*there)
    positive = torch.from_numpy(pool.positive(T2I, own))
    contrastive = contrastive_loss(scores, positive) + contrastive_loss(mapped_scores, positive)
    hinge = floor_loss(scores, lists.tokens[..., 0])
    hinge = hinge + floor_loss(mapped_scores, there.tokens[..., 0])
    expected = 0.5 * contrastive + 2.0 * triplet_loss(scores, positive) + 3.0 * hinge
    expected = expected + 7.0 * alignment_loss(scores, mapped_scores)
    assert total == pytest.approx(expected.item(), rel=1e-5)


def test_mapped_lists_swap_captions_for_their_images_and_images_for_a_caption() -> None:
    pool = PreparedPool.of(Pool(sibling_split(5, images=40)), PillarConfig())
    owners, rng = pool.split.image_of_text, np.random.default_rng(0)
    texts = pool.top(T2I, np.array([7, 120]))
    found = pool.mapped(T2I, texts, rng)
    np.testing.assert_array_equal(found.rows, owners[[7, 120]])
    np.testing.assert_array_equal(owners[found.shortlist], texts.shortlist)
    images = pool.top(I2T, np.array([3, 39]))
    back = pool.mapped(I2T, images, rng)
    np.testing.assert_array_equal(owners[back.rows], [3, 39])
    np.testing.assert_array_equal(back.shortlist, owners[images.shortlist])
    # What matches its query does so on either side.
    np.testing.assert_array_equal(pool.positive(T2I, texts), pool.positive(I2T, found))
    np.testing.assert_array_equal(pool.positive(I2T, images), pool.positive(T2I, back))


def test_every_true_candidate_is_marked_and_the_query_itself() -> None:
    pool = PreparedPool.of(Pool(sibling_split(5, images=40)), PillarConfig())
    images = QueryLists(np.array([1]), np.array([[5, 10, 9, 4]]))
    assert pool.positive(I2T, images).tolist() == [[True, True, False, True, False]]
    texts = QueryLists(np.array([14]), np.array([[5, 2]]))
    assert pool.positive(T2I, texts).tolist() == [[True, False, True]]


def test_pools_share_the_split_out_with_every_caption_at_its_image() -> None:
    split = sibling_split(6, images=50)
    pools = cut_pools(split, images=20, seed=0)
    assert [len(pool.split.embeddings[Modality.IMAGE]) for pool in pools] == [25, 25]
    images = np.concatenate([pool.split.embeddings[Modality.IMAGE] for pool in pools])
    assert len(np.unique(images, axis=0)) == 50
    for pool in pools:
        shown = pool.split.embeddings[Modality.IMAGE][pool.split.image_of_text]
        pairs = np.einsum("td,td->t", shown, pool.split.embeddings[Modality.TEXT])
        kept = np.isin(split.embeddings[Modality.TEXT], pool.split.embeddings[Modality.TEXT])
        own = split.embeddings[Modality.IMAGE][split.image_of_text]
        expected = np.einsum("td,td->t", own, split.embeddings[Modality.TEXT])[kept.all(axis=1)]
        np.testing.assert_allclose(pairs, expected, atol=1e-6)
