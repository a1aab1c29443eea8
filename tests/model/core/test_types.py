import pytest

from model.core.errors import EncoderMismatchError, MeetError
from model.core.types import CandidateBudget, Direction, Modality


@pytest.mark.parametrize(
    ("n_items", "k", "expected"),
    [
        (1000, 10, (200, 100)),  # a fifth and a tenth of the gallery
        (5000, 10, (1000, 500)),
        (100, 10, (64, 64)),  # small galleries keep at least 64
        (30, 10, (30, 30)),  # or all they have
        (1_000_000, 10, (8192, 1024)),  # large ones are capped
        (1000, 500, (500, 500)),  # never fewer than the hits asked for
    ],
)
def test_a_budget_keeps_shares_within_its_bounds(
    n_items: int, k: int, expected: tuple[int, int]
) -> None:
    assert CandidateBudget().counts(n_items, k) == expected


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
