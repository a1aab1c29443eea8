import pytest

from model.core.errors import EncoderMismatchError, MeetError
from model.core.types import CandidateBudget, Direction, Modality


@pytest.mark.parametrize(
    ("n_items", "expected"),
    [
        (1000, (200, 100)),  # a fifth and a tenth of the gallery
        (5000, (1000, 500)),
        (100, (64, 64)),  # small galleries keep at least 64
        (30, (30, 30)),  # or all they have
        (0, (0, 0)),
        (1_000_000, (8192, 1024)),  # large ones are capped
    ],
)
def test_a_budget_keeps_shares_within_its_bounds(n_items: int, expected: tuple[int, int]) -> None:
    assert CandidateBudget().counts(n_items) == expected


def test_more_candidates_are_kept_where_more_are_asked_for() -> None:
    assert CandidateBudget().keeping(500).counts(1000) == (500, 500)
    assert CandidateBudget().keeping(5) == CandidateBudget()


def test_a_direction_names_who_asks_and_who_answers() -> None:
    assert Direction.TEXT_TO_IMAGE.query is Modality.TEXT
    assert Direction.TEXT_TO_IMAGE.candidate is Modality.IMAGE
    assert Direction.IMAGE_TO_TEXT.candidate is Modality.TEXT
    for direction in Direction:
        assert direction.other.query is direction.candidate
        assert direction.other.candidate is direction.query


def test_every_error_has_a_code_for_machines() -> None:
    assert EncoderMismatchError("…").code == "encoder_mismatch"
    assert MeetError("…").code == "meet"
