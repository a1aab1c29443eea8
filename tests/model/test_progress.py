import io
import sys
from time import perf_counter, sleep

import pytest

from model import progress
from model.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, pause: float = 0.0) -> str:
    """What a bar of 50 steps leaves on stderr, with a figure beside it."""
    monkeypatch.setattr(sys, "stderr", stderr)
    steps = bar(range(50), desc="steps")
    for step in steps:
        sleep(pause)
        steps.set_postfix(step=step, refresh=False)
    return stderr.getvalue()


def test_a_log_hears_nothing_of_what_is_soon_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(monkeypatch, io.StringIO()) == ""


def test_a_log_hears_of_a_long_work_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "RARE_S", 0.2)
    began = perf_counter()
    said = written(monkeypatch, io.StringIO(), pause=0.01)
    assert 1 <= said.count("\r") <= (perf_counter() - began) / 0.2 + 1
    assert said.endswith("step=49]\n")


def test_a_terminal_sees_the_bar_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    said = written(monkeypatch, Terminal())
    assert said.startswith("\rsteps:   0%")
    assert "step=49]\n" in said
