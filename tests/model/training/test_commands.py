"""What `meet-train` and `meet-eval` refuse before any work: one sentence, exit 2, no usage text."""

from pathlib import Path

import pytest

from model.training.eval_cli import main as evaluate
from model.training.train_cli import main as train

Captured = pytest.CaptureFixture[str]


def sentence(capsys: Captured) -> str:
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ([], "the following arguments are required: command"),
        (["heads"], "--encoder, --data, --out"),
        (["vse", "--data", "d"], "--out"),
        (["learned", "--data", "d"], "--checkpoint"),
        (["vse", "--data", "d", "--out", "o", "--epochs", "many"], "--epochs"),
        (["paint"], "'paint'"),
    ],
)
def test_training_without_a_flag_names_it(told: list[str], named: str, capsys: Captured) -> None:
    assert train(told) == 2
    line = sentence(capsys)
    assert line.startswith("meet-train: ")
    assert named in line


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ([], "--data, --split"),
        (["--data", "d", "--split", "dev"], "one of the arguments --checkpoint --index"),
        (["--data", "d", "--split", "dev", "--index", "i", "--checkpoint", "c"], "not allowed"),
    ],
)
def test_evaluating_without_a_flag_names_it(told: list[str], named: str, capsys: Captured) -> None:
    assert evaluate(told) == 2
    line = sentence(capsys)
    assert line.startswith("meet-eval: ")
    assert named in line


@pytest.mark.parametrize(
    "told",
    [
        ["heads", "--encoder", "none", "--data", "d"],
        ["vse", "--data", "d"],
        ["import", "--checkpoint", "c"],
    ],
)
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_where_a_checkpoint_goes_is_refused_by_its_rule(
    told: list[str], below: str, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert train([*told, "--out", str(file / below)]) == 2
    assert "--out needs to be a folder, got" in sentence(capsys)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("kind", ["pillar", "learned"])
def test_a_folder_where_a_re_ranker_s_file_goes_is_refused_by_its_rule(
    kind: str, tmp_path: Path, capsys: Captured
) -> None:
    told = [kind, "--checkpoint", "c", "--data", "d", "--out", str(tmp_path)]
    assert train(told) == 2
    assert f"--out is the file to write, got the folder {tmp_path}" in sentence(capsys)
