import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import main
from model.artifact.store import VersionStore
from model.cascade import Cascade, Ranking, SearchOptions
from model.core.errors import CheckpointError, InputError, UnsupportedRerankError
from model.core.types import Direction, Modality, RerankMode
from model.rerankers.ordering import AppliedRerank
from model.rerankers.pillar.config import PillarConfig
from model.rerankers.pillar.neighbours import PillarSide
from model.rerankers.pillar.reranker import PILLAR_FILE, PillarReranker
from model.rerankers.pillar.serving import PillarMode
from model.rerankers.second_stage import SecondStage
from tests.index_builder.conftest import Built

CONFIG = PillarConfig(width=16, heads=2, neighbours=5)
RERANKER = PillarReranker.untrained(CONFIG, seed=2, trained_on="made-up pairs")
OPTIONS = SearchOptions(k=20, rerank=RerankMode.PILLAR)
FILES = {"neighbours.npy", "bank_neighbours.npy", "neighbour_reach.npy", PILLAR_FILE}


@pytest.fixture
def checkpoint(tmp_path: Path, clip: Path) -> Path:
    """An encoder with a pillar re-ranker beside it."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(clip, folder)
    RERANKER.save(folder / PILLAR_FILE)
    return folder


def pillar_files(root: Path) -> set[str]:
    return {path.name for path in (root / "versions").rglob("*")} & FILES


def asked(cascade: Cascade, direction: Direction, queries: np.ndarray) -> list[Ranking]:
    found = cascade.search(direction, queries.astype(np.float32), OPTIONS)
    assert {one.rerank for one in found} == {AppliedRerank.PILLAR}
    return found


@pytest.mark.parametrize("bank_size", [10**6, 40])
def test_stored_neighbours_are_those_of_a_slow_search(
    vectors: Path, checkpoint: Path, build: Built, bank_size: int
) -> None:
    artifact = build(vectors, checkpoint, bank_size=bank_size, shard_size=7)
    for modality in Modality:
        side, bank = artifact.side(modality), artifact.bank(modality.other)
        table = side.neighbours
        assert table is not None
        assert bank is not None
        assert isinstance(table.own, np.memmap)
        items, entries = (one.astype(np.float64) for one in (side.embeddings, bank))
        for row, item in enumerate(items):
            inside, outside = items @ item, entries @ item
            inside[row] = 9  # itself first
            assert table.own[row].tolist() == np.argsort(-inside)[:5].tolist()
            assert table.other[row].tolist() == np.argsort(-outside)[:5].tolist()
            assert table.reach[row] == pytest.approx(np.sort(outside)[-5], abs=1e-6)


def test_a_built_index_answers_as_tables_from_the_embeddings_do(
    vectors: Path, checkpoint: Path, build: Built
) -> None:
    artifact = build(vectors, checkpoint)
    disk = Cascade.from_artifact(artifact)
    stored = {m: np.asarray(artifact.side(m).embeddings) for m in Modality}
    banks = {m: np.asarray(artifact.banks[m]).astype(np.float32) for m in Modality}
    tables = {
        d: PillarSide.of(stored[d.candidate], banks[d.query], CONFIG.neighbours) for d in Direction
    }
    pillar = PillarMode(RERANKER, tables, own_bank=True)
    memory = Cascade(
        disk.heads, disk.sides, SecondStage(artifact.manifest.stage_two, pillar=pillar)
    )
    for direction in Direction:
        queries = stored[direction.query][:9]
        pairs = zip(asked(memory, direction, queries), asked(disk, direction, queries), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_array_equal(ours.rows, theirs.rows)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def test_what_is_built_says_so_and_holds_together(
    vectors: Path, checkpoint: Path, build: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = build(vectors, checkpoint)
    assert artifact.manifest.pillar is not None
    assert artifact.manifest.pillar.model_dump() == {
        "neighbours": 5,
        "trained_on": "made-up pairs",
    }
    assert pillar_files(artifact.root) == FILES
    VersionStore(artifact.root).verify(None)
    assert main(["inspect", "--index", str(artifact.root)]) == 0
    assert "5 neighbours of each kind, trained on made-up pairs" in capsys.readouterr().out
    assert main(["inspect", "--json", "--index", str(artifact.root)]) == 0
    told = json.loads(capsys.readouterr().out)
    weights = (artifact.root / "versions" / artifact.version / PILLAR_FILE).stat().st_size
    assert told["memory"]["anonymous"] > weights


@pytest.mark.parametrize("how", ["unwanted", "not there"])
def test_without_a_re_ranker_nothing_of_it_is_written(
    vectors: Path, checkpoint: Path, build: Built, how: str
) -> None:
    if how == "not there":
        (checkpoint / PILLAR_FILE).unlink()
    artifact = build(vectors, checkpoint, pillar=False if how == "unwanted" else None)
    assert artifact.manifest.pillar is None
    assert pillar_files(artifact.root) == set()
    cascade = Cascade.from_artifact(artifact)
    assert RerankMode.PILLAR not in cascade.second.modes
    with pytest.raises(UnsupportedRerankError, match="meet-train pillar"):
        cascade.search(Direction.TEXT_TO_IMAGE, np.ones((1, 32), np.float32), OPTIONS)


def test_a_re_ranker_that_is_wanted_has_to_be_there(
    vectors: Path, clip: Path, build: Built
) -> None:
    with pytest.raises(InputError, match=rf"--pillar needs {clip / PILLAR_FILE}"):
        build(vectors, clip, pillar=True)


def test_a_broken_re_ranker_is_refused_before_anything_is_encoded(
    photos: Path, checkpoint: Path, build: Built, tmp_path: Path
) -> None:
    (checkpoint / PILLAR_FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="holds no pillar re-ranker"):
        build(photos, checkpoint)
    assert not list((tmp_path / "root").rglob("*.npz"))


@pytest.mark.parametrize("only", list(Modality))
def test_a_gallery_of_one_side_borrows_the_other_from_a_bank(
    vectors: Path, checkpoint: Path, build: Built, tmp_path: Path, only: Modality
) -> None:
    gallery = tmp_path / "one-sided"
    gallery.mkdir()
    shutil.copy(vectors / f"{only}.npy", gallery)
    if only is Modality.TEXT:
        shutil.copy(vectors / "captions.txt", gallery)
    direction = next(d for d in Direction if d.candidate is only)
    alone = build(gallery, checkpoint)
    assert alone.manifest.pillar is None
    with pytest.raises(InputError, match="--pillar needs images and captions"):
        build(gallery, checkpoint, pillar=True)
    artifact = build(gallery, checkpoint, bank=str(vectors))
    cascade = Cascade.from_artifact(artifact)
    assert cascade.second.pillar is not None
    assert list(cascade.second.pillar.sides) == [direction]
    (found,) = asked(cascade, direction, np.asarray(artifact.banks[only.other])[:1])
    assert len(found.rows) == 20


def test_a_new_re_ranker_is_a_new_version(
    vectors: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "index")
    command = ["--gallery", str(vectors), "--encoder", str(checkpoint), "--out", root]
    said = []
    for trained_again, flags in ((False, []), (False, []), (True, []), (False, ["--no-pillar"])):
        if trained_again:
            PillarReranker.untrained(CONFIG, seed=3).save(checkpoint / PILLAR_FILE)
        assert main([*command, *flags]) == 0
        said.append(capsys.readouterr().out.split()[0])
    assert said == ["published", "already", "published", "published"]
