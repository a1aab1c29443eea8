import pytest
import torch
from torch import Tensor

from model.rerankers.learned.network import MASKED, LearnedConfig, ListNetwork
from model.rerankers.learned.terms import N_TERMS, N_VARYING

LISTS, LENGTH = 6, 10


def network(seed: int = 0) -> ListNetwork:
    torch.manual_seed(seed)
    made = ListNetwork(LearnedConfig(width=16))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def terms(seed: int = 0) -> Tensor:
    return torch.randn((LISTS, LENGTH, N_TERMS), generator=torch.Generator().manual_seed(seed))


LIVE = torch.ones((LISTS, LENGTH), dtype=torch.bool)


def test_scores_follow_what_a_list_says_of_its_candidates_not_where_its_cosines_lie() -> None:
    scorer, given = network(), terms()
    moved = given.clone()
    moved[..., :N_VARYING] += torch.randn(LISTS, 1, N_VARYING)
    torch.testing.assert_close(scorer(moved, LIVE), scorer(given, LIVE), atol=1e-4, rtol=0)
    shared = given.clone()
    shared[..., N_VARYING:] += 1.0
    assert (scorer(shared, LIVE) - scorer(given, LIVE)).abs().max() > 0.1


def test_dead_candidates_change_nothing() -> None:
    scorer, given = network(), terms()
    live = torch.rand((LISTS, LENGTH), generator=torch.Generator().manual_seed(1)) > 0.4
    scores = scorer(given, live)
    assert bool((scores[~live] == MASKED).all())
    for row in range(LISTS):
        kept = given[row][live[row]][None]
        alone = scorer(kept, torch.ones(kept.shape[:2], dtype=torch.bool))
        torch.testing.assert_close(alone[0], scores[row][live[row]], atol=1e-5, rtol=0)


def test_standardised_terms_have_no_mean_and_unit_spread() -> None:
    scorer, given = network(), 3 * terms() + 7
    scorer.standardise(given, LIVE)
    centred = given - given.mean(dim=1, keepdim=True)
    torch.testing.assert_close(scorer.spread[0], centred[..., 0].std())
    torch.testing.assert_close(scorer.mean[N_VARYING:], given[..., N_VARYING:].mean(dim=(0, 1)))
    assert float(scorer.mean[:N_VARYING].abs().max()) < 1e-5


def test_an_untrained_network_scores_all_alike() -> None:
    with torch.inference_mode():
        scores = ListNetwork(LearnedConfig()).eval()(terms(), LIVE)
    assert float((scores - scores[0, 0]).abs().max()) == pytest.approx(0, abs=1e-6)
