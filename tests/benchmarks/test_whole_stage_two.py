import numpy as np
import pytest

from benchmarks.whole_stage_two import WholeStageTwo, rank_matrix
from model.core.types import CandidateBudget, Direction
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.weights import DirectionWeights, StageTwo
from model.reverse_lists.compute import reverse_ranks
from model.training.evaluation import cascade_lists, cascade_over, list_ranks, pair_bank
from tests.benchmarks.test_simple_rules import pairs_of

ALL = CandidateBudget(keep_hash=1.0, keep_pq=1.0, max_hash=10**9, max_pq=10**9)
STAGE_TWO = StageTwo(
    with_pairs={
        Direction.IMAGE_TO_TEXT: DirectionWeights(complementarity=0.2, expansion=0.3),
        Direction.TEXT_TO_IMAGE: DirectionWeights(hubness=0.8, expansion=0.2, feedback=-0.1),
    },
    own_bank=dict.fromkeys(Direction, DirectionWeights(temperature=0.05, complementarity=0.3)),
)


@pytest.mark.parametrize("with_pairs", [True, False])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("z", [16, 128])  # longer than the bank of images: padded
def test_ranks_are_those_of_a_cascade_that_keeps_everything(
    own: bool, with_pairs: bool, z: int
) -> None:
    split, bank = pairs_of(40, 2), pairs_of(60, 3)
    heads = fit_heads(
        HeadsConfig(embedding_dim=12, n_bits=16, n_subspaces=4, n_centroids=16),
        bank.embeddings,
        0,
    )
    pairs = pair_bank(bank, heads) if with_pairs else None
    over = None if own else bank.embeddings
    cascade = cascade_over(split, heads, STAGE_TWO, over, pairs, z)
    expected = list_ranks(split, cascade_lists(cascade, split, ALL))
    whole = WholeStageTwo.of(split, heads, STAGE_TWO)
    found = whole.ranks(whole.lists(over, z), whole.expanded(pairs), own_bank=own)
    assert (found.i2t == expected.i2t).all()
    assert (found.t2i == expected.t2i).all()


def test_reverse_ranks_are_those_of_one_query_at_a_time() -> None:
    rng = np.random.default_rng(0)
    lists = -np.sort(-rng.random((9, 7)), axis=1).astype(np.float16)
    lists[3, 4:] = -2.0
    cosines = rng.random((5, 9)).astype(np.float32)
    cosines[0, 0] = lists[0, 2]  # equal values are not above
    expected = [reverse_ranks(lists, row) for row in cosines]
    assert (rank_matrix(cosines, lists) == np.stack(expected)).all()
    assert rank_matrix(cosines, lists)[0, 0] == 2
