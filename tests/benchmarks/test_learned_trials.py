from pathlib import Path

import pytest
import torch

from benchmarks import learned_trials
from benchmarks.learned_trials import HUBNESS, ONLINE, TRIALS, Trial, compare, main, shown
from model.core.types import Direction
from model.rerankers.learned.reranker import CASES
from model.rerankers.learned.terms import N_SHARED, N_TERMS, VIEWS
from model.training.learned_lists import TermLists
from model.training.learned_options import LearnedOptions

QUICK = LearnedOptions(steps=400, width=16, learning_rate=1e-2)


def lists(seed: int, telling: int) -> TermLists:
    """Lists whose true candidate has the highest value of one term."""
    terms = torch.randn((400, 12, N_TERMS), generator=torch.Generator().manual_seed(seed))
    true = torch.zeros((400, 12), dtype=torch.bool)
    true[torch.arange(400), terms[..., telling].argmax(dim=1)] = True
    return TermLists(terms, true, torch.ones_like(true))


def test_a_trial_that_does_not_see_the_telling_term_learns_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telling = HUBNESS[0]
    blind = [term for term in range(N_TERMS) if term != telling]
    monkeypatch.setattr(
        learned_trials, "TRIALS", (Trial("all", options=QUICK), Trial("blind", blind, QUICK))
    )
    monkeypatch.setattr(learned_trials, "CASES", CASES[:1])
    folds = [{case: lists(seed, telling) for case in CASES[:1]} for seed in range(3)]
    before, seeing, not_seeing = compare(folds)
    for case in CASES[:1]:
        assert before.recalls[str(case)] == folds[-1][case].recall()
        assert seeing.recalls[str(case)] > 290
        assert not_seeing.recalls[str(case)] < 170  # chance is 133


def test_terms_at_hand_online_are_those_without_a_candidate_s_context() -> None:
    query_views = [VIEWS * view for view in range(VIEWS)]
    assert list(ONLINE) == [*query_views, *HUBNESS]
    assert len(HUBNESS) == N_TERMS - VIEWS * VIEWS - 2 * N_SHARED


def test_what_is_shown_is_the_start_of_a_list_with_the_terms_told() -> None:
    whole = lists(0, 0)
    part = shown(whole, [2, 5], 7)
    assert part.terms.shape == (400, 7, N_TERMS)
    torch.testing.assert_close(part.terms[..., [2, 5]], whole.terms[:, :7, [2, 5]])
    assert int((part.terms != 0).any(dim=(0, 1)).sum()) == 2


def test_names_differ_and_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len({trial.name for trial in TRIALS}) == len(TRIALS)
    assert {case.direction for case in CASES} == set(Direction)
    assert main(["--checkpoint", str(tmp_path / "none"), "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
