import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bank_sizes, rules
from benchmarks.rules import BEST, DEFAULT, LEARNED, SERVED, Row, table, verdict
from benchmarks.simple_rules import FAMILIES
from model.core.bootstrap import Interval
from model.core.metrics import Recalls
from model.rerankers.learned.reranker import LEARNED_FILE
from model.training.train_cli import main as train
from tests.model.rerankers.learned.test_reranker import random_reranker
from tests.model.training.world import write_precomp

RECALLS = Recalls(i2t=(10.0, 20.0, 30.0), t2i=(1.0, 2.0, 3.04), rsum=66.04)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("rules")
    data, checkpoint = write_precomp(folder / "data", images=24, dev=12), str(folder / "ck")
    small = ["--epochs", "1", "--embedding-dim", "16", "--gru-dim", "8", "--heads-epochs", "1"]
    assert train(["vse", "--data", str(data), "--out", checkpoint, *small]) == 0
    return [
        *("--checkpoint", checkpoint, "--data", str(data), "--split", "dev"),
        *("--bank", f"{data}:train"),
    ]


def row(name: str, ahead: float | None, protocol: str = "inductive") -> Row:
    interval = None if ahead is None else Interval(value=ahead, low=ahead - 1, high=ahead + 1)
    return Row(protocol=protocol, name=name, setting="k 1", recalls=RECALLS, ahead=interval)


def test_a_table_names_protocols_and_leaves_the_default_without_a_difference() -> None:
    rows = [row("cosine", 2.25), row(DEFAULT, None), row("cosine", -1.5, "transductive")]
    lines = table(rows).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| **inductive**",
        "| cosine",
        f"| {DEFAULT}",
        "| **transductive**",
        "| cosine",
    ]
    values = "10.0 | 20.0 | 30.0 | 1.0 | 2.0 | 3.0 | 66.0"
    assert lines[3] == f"| cosine | k 1 | {values} | +2.2 (+1.2 to +3.2) |"
    assert lines[4] == f"| {DEFAULT} | k 1 | {values} |  |"


def test_the_verdict_names_the_rule_that_comes_nearest_and_no_cascade() -> None:
    rows = [row("CSLS", 2.0), row("cosine", 3.0), row(DEFAULT, None), row(SERVED, -9.0)]
    rows += [row("CSLS", 2.0, "transductive"), row("cosine", -0.5, "transductive")]
    assert verdict(rows).endswith(
        "inductive: 2.0 above CSLS (k 1); transductive: 0.5 below cosine (k 1)."
    )


def test_a_run_compares_every_rule_under_both_protocols(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert rules.main([*told, "--bootstrap", "20", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "rules.json").read_text())
    rows = [Row.model_validate(one) for one in printed]
    names = [one.name for one in rows]
    assert names[: len(names) // 2] == names[len(names) // 2 :]
    assert names[-2:] == [DEFAULT, SERVED]
    assert {f.name for f in FAMILIES} | {f.name + BEST for f in FAMILIES if f.grid} < set(names)
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        by_name = {one.name: one.recalls.rsum for one in half}
        default = by_name[DEFAULT]
        for one in half:
            assert by_name.get(one.name + BEST, 600.0) >= one.recalls.rsum
            if one.ahead is not None:
                assert one.ahead.value == pytest.approx(default - one.recalls.rsum)
    document = (out / "rules.md").read_text()
    assert "--bootstrap 20" in document
    assert table(rows) in document


def test_where_there_is_a_learned_re_ranker_all_are_compared_with_it(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = shutil.copytree(told[1], tmp_path / "ck")
    random_reranker().save(checkpoint / LEARNED_FILE)
    asked = ["--checkpoint", str(checkpoint), *told[2:], "--bootstrap", "20", "--json"]
    assert rules.main(asked) == 0
    rows = [Row.model_validate(one) for one in json.loads(capsys.readouterr().out)]
    half = rows[: len(rows) // 2]
    assert [one.name for one in half[-3:]] == [DEFAULT, SERVED, LEARNED]
    assert [one.name for one in half if one.ahead is None] == [LEARNED]
    for one in half[:-1]:
        assert one.ahead is not None
        assert one.ahead.value == pytest.approx(half[-1].recalls.rsum - one.recalls.rsum)
    assert verdict(rows).startswith(LEARNED)


def test_bank_sizes_agree_with_the_rules_and_the_cosine(
    told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert rules.main([*told, "--bootstrap", "1", "--json"]) == 0
    defaults = {
        one["protocol"]: one["recalls"]["rsum"]
        for one in json.loads(capsys.readouterr().out)
        if one["name"] == DEFAULT
    }
    assert bank_sizes.main([*told, "--sizes", "0", "4", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    sizes, depths = found["sizes"], {one["z"]: one for one in found["depths"]}
    assert [(one["images"], one["captions"]) for one in sizes] == [(0, 0), (4, 4), (24, 120)]
    assert sizes[0]["inductive"] == found["base"]
    for protocol, rsum in defaults.items():
        assert sizes[-1][protocol] == pytest.approx(rsum)
        assert depths[128][protocol] == pytest.approx(rsum)
    assert sorted(path.name for path in out.iterdir()) == ["bank.json", "bank.md", "bank.png"]
    assert "| 24 | 120 |" in (out / "bank.md").read_text()


def test_a_second_run_encodes_nothing_unless_the_regions_changed(told: list[str]) -> None:
    def written() -> dict[str, int]:
        kept = Path(f"{told[1]}.cache").glob("*-embeddings-*.npy")
        return {path.name: path.stat().st_mtime_ns for path in kept}

    assert rules.main([*told, "--bootstrap", "1"]) == 0
    first = written()
    assert {"image", "text"} == {name.partition("-")[0] for name in first}
    assert rules.main([*told, "--bootstrap", "1"]) == 0
    assert written() == first
    regions = Path(told[3]) / "dev_ims.npy"
    kept = np.load(regions)
    try:
        np.save(regions, kept[::-1])
        assert rules.main([*told, "--bootstrap", "1"]) == 0
    finally:
        np.save(regions, kept)
    assert [name.partition("-")[0] for name in written().keys() - first.keys()] == ["image"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--bank-size", "0"], "--bank-size must be 1 or more, got 0"),
        (["--seed", "-1"], "--seed must be 0 or more, got -1"),
        (["--bootstrap", "0"], "--bootstrap must be 1 or more, got 0"),
        (["--out", __file__], "--out needs to be a folder, got the file"),
    ],
)
def test_bad_input_is_one_sentence(
    told: list[str], flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rules.main([*told, *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_bank_of_less_than_nothing_is_refused(
    told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bank_sizes.main([*told, "--sizes", "-4"]) == 2
    assert "--sizes must be 0 or more, got -4" in capsys.readouterr().err
