import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from index_builder.cli import main
from model.artifact.store import VersionStore
from model.cascade import Cascade, SearchOptions
from model.core.errors import CheckpointError, InputError
from model.core.types import Direction, Modality, RerankMode
from model.rerankers.learned.reranker import LEARNED_FILE
from model.rerankers.learned.serving import LearnedMode
from model.rerankers.ordering import AppliedRerank
from model.rerankers.pairs import PairBank
from model.rerankers.second_stage import SecondStage
from tests.index_builder.conftest import Built
from tests.model.rerankers.learned.test_reranker import random_reranker

RERANKER = random_reranker()
FILES = {"contexts.npy", LEARNED_FILE}
OPTIONS = SearchOptions(k=20, rerank=RerankMode.LEARNED)


@pytest.fixture
def checkpoint(tmp_path: Path, clip: Path) -> Path:
    """An encoder with a learned re-ranker beside it."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(clip, folder)
    RERANKER.save(folder / LEARNED_FILE)
    return folder


def learned_files(root: Path) -> set[str]:
    return {path.name for path in (root / "versions").rglob("*")} & FILES


def test_a_built_index_answers_as_contexts_from_the_embeddings_do(
    vectors: Path, checkpoint: Path, build: Built
) -> None:
    artifact = build(vectors, checkpoint, bank=str(vectors), shard_size=7)
    partner = artifact.bank_partner
    assert partner is not None
    pairs = PairBank(artifact.banks, partner, artifact.heads)
    contexts = {}
    for modality in Modality:
        side = artifact.side(modality)
        assert isinstance(side.contexts, np.memmap)
        hash_space = artifact.heads.hash_space(modality, side.embeddings)
        contexts[modality] = pairs.contexts(modality, side.embeddings, hash_space)
        np.testing.assert_array_equal(side.contexts, contexts[modality])
    disk = Cascade.from_artifact(artifact)
    assert disk.second.default is RerankMode.LEARNED
    second = SecondStage(
        artifact.manifest.stage_two, pairs, learned=LearnedMode(RERANKER, contexts)
    )
    memory = Cascade(disk.heads, disk.sides, second)
    for direction in Direction:
        queries = np.asarray(artifact.side(direction.query).embeddings[:9], np.float32)
        found = [one.search(direction, queries, OPTIONS) for one in (memory, disk)]
        for ours, theirs in zip(*found, strict=True):
            assert theirs.rerank is AppliedRerank.LEARNED
            np.testing.assert_array_equal(ours.rows, theirs.rows)
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-6)


def test_what_is_built_says_so_and_holds_together(
    vectors: Path, checkpoint: Path, build: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = build(vectors, checkpoint, bank=str(vectors))
    assert artifact.manifest.learned is not None
    assert artifact.manifest.learned.trained_on == "made-up pairs"
    assert learned_files(artifact.root) == FILES
    VersionStore(artifact.root).verify(None)
    assert main(["inspect", "--index", str(artifact.root)]) == 0
    assert "trained on made-up pairs" in capsys.readouterr().out
    assert main(["inspect", "--json", "--index", str(artifact.root)]) == 0
    told = json.loads(capsys.readouterr().out)
    weights = (artifact.root / "versions" / artifact.version / LEARNED_FILE).stat().st_size
    assert told["memory"]["anonymous"] > weights


@pytest.mark.parametrize("how", ["unwanted", "not there", "no bank of pairs"])
def test_without_a_re_ranker_or_pairs_nothing_of_it_is_written(
    vectors: Path, checkpoint: Path, build: Built, how: str
) -> None:
    if how == "not there":
        (checkpoint / LEARNED_FILE).unlink()
    artifact = build(
        vectors,
        checkpoint,
        bank=None if how == "no bank of pairs" else str(vectors),
        learned=False if how == "unwanted" else None,
    )
    assert artifact.manifest.learned is None
    assert learned_files(artifact.root) == set()
    second = Cascade.from_artifact(artifact).second
    assert second.default is RerankMode.RELATIONSHIP
    assert RerankMode.LEARNED not in second.modes


def test_a_re_ranker_that_is_wanted_has_to_be_there_with_pairs(
    vectors: Path, clip: Path, checkpoint: Path, build: Built
) -> None:
    with pytest.raises(InputError, match=rf"--learned needs {clip / LEARNED_FILE}"):
        build(vectors, clip, learned=True, bank=str(vectors))
    with pytest.raises(InputError, match="--learned needs a --bank of images with their captions"):
        build(vectors, checkpoint, learned=True)


def test_a_broken_re_ranker_is_refused_before_anything_is_encoded(
    photos: Path, checkpoint: Path, build: Built, tmp_path: Path
) -> None:
    (checkpoint / LEARNED_FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="holds no learned re-ranker"):
        build(photos, checkpoint)
    assert not list((tmp_path / "root").rglob("*.npz"))


def test_a_new_re_ranker_is_a_new_version(
    vectors: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "index")
    command = ["--gallery", str(vectors), "--encoder", str(checkpoint), "--out", root]
    command += ["--bank", str(vectors)]
    said = []
    for trained_again, flags in ((False, []), (False, []), (True, []), (False, ["--no-learned"])):
        if trained_again:
            random_reranker(candidates=13).save(checkpoint / LEARNED_FILE)
        assert main([*command, *flags]) == 0
        said.append(capsys.readouterr().out.split()[0])
    assert said == ["published", "already", "published", "published"]
