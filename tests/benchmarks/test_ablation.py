import json
from pathlib import Path

import pytest

from benchmarks import ablation
from benchmarks.ablation import Row, Variation, main, reweighed, table, variations, weighted_terms
from model.core.types import Direction
from model.rerankers.weights import DirectionWeights, StageTwo
from model.training.options import HeadsOptions
from model.training.train_cli import main as train
from tests.model.training.world import write_precomp

HEADS = HeadsOptions()
STAGE_TWO = StageTwo(
    weights=dict.fromkeys(Direction, DirectionWeights(complementarity=0.2, hubness=0.0))
)


def group(name: str) -> dict[str, Variation]:
    return {one.name: one for one in variations(HEADS, STAGE_TWO) if one.group == name}


def test_each_loss_is_off_in_a_row_that_is_the_default_otherwise() -> None:
    off = {
        "no ranking loss": {"ranking"},
        "no ranking loss of the signs": {"sign_ranking"},
        "no L_f": {"beta_1"},
        "no L_q": {"beta_2"},
        "no ranking loss at all": {"ranking", "sign_ranking"},
    }
    rows = group("losses")
    for name, options in off.items():
        changed = {**HEADS.model_dump(), **dict.fromkeys(options, 0.0)}
        assert rows[name].heads.model_dump() == changed
    assert not rows["fitted, not trained"].trained


def test_each_width_differs_from_the_default_in_one_number() -> None:
    rows = group("widths")
    assert "K = 128, M = 8, L = 256" in rows
    assert {row.heads.n_bits for row in rows.values()} == {32, 64, 128, 256}
    for row in rows.values():
        own = row.heads.model_dump().items() - HEADS.model_dump().items()
        assert len(own) == 1


def test_without_a_stage_it_keeps_what_the_one_before_kept() -> None:
    shares = {name: row.budget.counts(1000) for name, row in group("stages").items()}
    assert shares["no hash stage"] == (1000, 100)
    assert shares["no PQ stage (the hash keeps as many)"] == (100, 100)
    assert shares["no Stage I"] == (1000, 1000)
    assert shares["no Stage II"] == (200, 100)


def test_a_term_is_off_for_every_bank_and_direction_alone() -> None:
    off = group("terms")["no complementarity"].stage_two
    for weights in (*off.weights.values(), *off.with_pairs.values()):
        assert weights.complementarity == 0
    assert off.weights[Direction.TEXT_TO_IMAGE].consistency == 1
    assert off.with_pairs[Direction.TEXT_TO_IMAGE].hubness == DirectionWeights().hubness


def test_terms_are_the_weights_that_count_somewhere_and_no_temperature() -> None:
    found = weighted_terms(STAGE_TWO)
    assert {"consistency", "complementarity", "hubness"} <= set(found)
    assert "temperature" not in found
    assert weighted_terms(reweighed(STAGE_TWO, ablation._cosine_alone)) == ["consistency"]


def test_a_table_has_a_line_for_each_row_and_group() -> None:
    numbers = {
        "hash_i2t": 99.04,
        "hash_t2i": 90.0,
        "pq_i2t": 98.0,
        "pq_t2i": 85.0,
        "base": 240.0,
        "inductive": 250.25,
        "transductive": 251.0,
    }
    rows = [Row(group=name, name=name.upper(), **numbers) for name in ("a", "a", "b")]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 3 + 1
    assert lines[2] == "| A | 99.0 | 90.0 | 98.0 | 85.0 | 240.0 | 250.2 | 251.0 |"
    assert lines[4].startswith("| **b** |")
    assert len({line.count("|") for line in lines}) == 1


def test_a_run_measures_the_checkpoint_and_every_row_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, checkpoint = write_precomp(tmp_path / "data", images=20, dev=8), str(tmp_path / "ck")
    small = ["--epochs", "1", "--embedding-dim", "16", "--gru-dim", "8", "--heads-epochs", "1"]
    assert train(["vse", "--data", str(data), "--out", checkpoint, *small]) == 0
    capsys.readouterr()
    told = ["--checkpoint", checkpoint, "--data", str(data), "--split", "dev"]
    told += ["--bank", f"{data}:train", "--epochs", "1", "--only", "stages"]
    out = tmp_path / "ablation.md"
    assert main([*told, "--json", "--out", str(out)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    default = rows["K = 64, M = 8, L = 256"]
    assert list(rows)[:2] == ["the checkpoint", default["name"]]
    assert rows["neither"]["inductive"] == pytest.approx(default["base"], abs=0.6)
    assert rows["no Stage I"]["pq_t2i"] == 100.0
    assert "--only stages" in out.read_text()
    assert main([*told, "--bank-size", "0"]) == 2
    assert main([*told, "--epochs", "0"]) == 2
    assert "--epochs: Input should be greater than or equal to 1, got 0" in capsys.readouterr().err
