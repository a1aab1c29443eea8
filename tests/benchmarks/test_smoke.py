import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.smoke import Answer, announced_url, main
from index_builder.cli import main as build
from index_builder.scenes.generate import generate_gallery
from index_builder.scenes.split import SceneSplit
from model.core.errors import MeetError
from tests.support.tiny_models import save_tiny_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 24 scenes by an encoder that knows nothing."""
    folder = tmp_path_factory.mktemp("smoke")
    generate_gallery(folder / "gallery", SceneSplit.DEMO, n_scenes=24, seed=3)
    encoder = save_tiny_clip(folder / "clip")
    told = ["--gallery", folder / "gallery", "--encoder", encoder, "--out", folder / "index"]
    assert build([str(word) for word in told]) == 0
    return folder / "index"


def test_a_server_answers_what_the_cascade_answers(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--index", str(index), "--seed", "7", "--pairs", "4", "--at-least", "0"]
    assert main(told) == 0
    said = capsys.readouterr().out
    assert "drawn with seed 7" in said
    assert said.count("  yes\n") == 4
    assert said.endswith("smoke test passed\n")


def test_too_few_pairs_in_the_top_fail(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--index", str(index), "--pairs", "2", "--at-least", "3"]) == 1
    assert capsys.readouterr().out.endswith("smoke test FAILED\n")


def test_more_pairs_than_images_are_refused(
    index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--index", str(index), "--pairs", "25"]) == 2
    assert "25 pairs need as many captioned images, got 24" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "print('no address')"])
def test_a_server_that_says_no_address_in_time_is_an_error(program: str) -> None:
    command = [sys.executable, "-c", program]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        pytest.raises(MeetError, match=r"no address within 0\.5 seconds"),
    ):
        announced_url(server, seconds=0.5)


def test_an_answer_equals_one_with_the_same_order_and_nearly_the_same_scores() -> None:
    answer = Answer(["a", "b"], [0.9, 0.5])
    assert answer.equals(Answer(["a", "b"], [0.90005, 0.5]))
    assert not answer.equals(Answer(["a", "b"], [0.9002, 0.5]))
    assert not answer.equals(Answer(["b", "a"], [0.9, 0.5]))
    assert not answer.equals(Answer(["a"], [0.9]))
    assert answer.rank_of(frozenset({"b", "c"})) == 1
    assert answer.rank_of(frozenset({"c"})) is None
