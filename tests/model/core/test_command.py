import pytest
from pydantic import model_validator

from model.core.command import checked, exit_status
from model.core.errors import CodeShapeError, InputError
from model.core.types import Frozen


class Widths(Frozen):
    n_heads: int
    width: int = 8

    @model_validator(mode="after")
    def _fits(self) -> "Widths":
        if self.width % self.n_heads:
            raise ValueError(f"heads must divide the width {self.width}, got {self.n_heads}")
        return self


def interrupted() -> None:
    raise KeyboardInterrupt


def refused() -> None:
    raise InputError("two\n  lines")


@pytest.mark.parametrize(
    ("go_on", "said"), [("", "it: interrupted\n"), ("again", "it: interrupted; again\n")]
)
def test_an_interrupted_command_ends_with_130_and_says_how_to_go_on(
    go_on: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("it", interrupted, go_on=go_on) == 130
    assert capsys.readouterr().err == said


def test_an_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("it", refused) == 2
    assert capsys.readouterr().err == "it: two lines\n"


def test_a_value_that_breaks_its_rule_is_told_by_its_flag() -> None:
    assert checked(Widths, {"n_heads": 4}) == Widths(n_heads=4)
    with pytest.raises(InputError, match=r"^--own-n-heads: .*valid integer.*, got 'x'$"):
        checked(Widths, {"n_heads": "x"}, "own-")


def test_values_that_do_not_fit_together_are_no_single_flag() -> None:
    with pytest.raises(CodeShapeError, match="heads must divide the width 8, got 3"):
        checked(Widths, {"n_heads": 3})
