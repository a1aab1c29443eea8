"""The soak of `make soak`, short: real server, mixed requests, swaps."""

import json
from pathlib import Path

import pytest

from benchmarks.soak import Tally, main, report


def test_thousands_of_requests_and_three_swaps_lose_and_mix_nothing_and_keep_memory_flat(
    two_versions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--index", str(two_versions), "--requests=2000", "--swaps=3", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert status == 0, told
    assert told["requests"] >= 2000
    assert told["swaps"] == 3


def test_one_version_cannot_be_swapped(
    index_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--index", str(index_root)]) == 2
    assert "two versions" in capsys.readouterr().err


def test_growth_is_the_last_quarter_over_the_second() -> None:
    sizes = [9, 1, 100, 100, 104, 3, 110, 110]
    tally = Tally(memory=list(enumerate(sizes)), seconds=[0.001, 0.003])
    assert tally.growth == pytest.approx(0.1)
    assert "+10.0%" in report(tally)
