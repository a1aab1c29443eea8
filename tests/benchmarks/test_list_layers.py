from pathlib import Path

import pytest

from benchmarks.list_layers import COMPUTED, MEMORY, STORED, TCP, UNIX, main
from tests.support.redis_server import RedisServer

SMALL = ("--items", "300", "--bank", "50", "--dim", "8", "--z", "8", "--rounds", "2")


@pytest.mark.redis
def test_the_page_has_every_layer_from_the_quickest_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not RedisServer.installed():
        pytest.skip("no redis-server on the PATH")
    page = tmp_path / "page.md"
    assert main([*SMALL, "--out", str(page)]) == 0
    assert page.read_text("utf-8") == capsys.readouterr().out
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert head[:2] == ["layer", "p50 ms"]
    table = {name: cells for name, *cells in rows}
    assert set(table) == {MEMORY, STORED, UNIX, TCP, COMPUTED}
    middle = [float(cells[0]) for cells in table.values()]
    assert middle == sorted(middle)
    assert next(iter(table.values()))[3] == "1.0"
    assert table[COMPUTED][4] == "1"
    assert table[STORED][5] == "-"


def test_without_a_redis_server_it_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(SMALL) == 2
    assert "redis-server" in capsys.readouterr().err
