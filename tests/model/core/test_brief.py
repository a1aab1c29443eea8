"""What messages show of values."""

import pytest

from model.core.brief import brief, shortened


@pytest.mark.parametrize("value", ["a", 7, 1.5, None, True, ["a", 1], {"k": "v"}, 10**30])
def test_a_short_value_is_shown_as_python_writes_it(value: object) -> None:
    assert brief(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5000,
        b"x" * 5000,
        ["x" * 5000] * 5000,
        {f"{row}" * 500: ["y" * 5000] for row in range(5000)},
        10**4000,
    ],
)
def test_a_long_value_is_shown_in_eighty_characters(value: object) -> None:
    assert len(brief(value)) <= 80
    assert "..." in brief(value)


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "a" * 60 + "b" * 60
    assert shortened(text) == "a" * 39 + "..." + "b" * 38
    assert shortened("c" * 80) == "c" * 80
