import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.artifact.manifest import Manifest, PillarInfo
from model.artifact.reader import Artifact, open_artifact
from model.artifact.store import VersionStore
from model.core.errors import (
    ArtifactError,
    DigestMismatchError,
    EncoderMismatchError,
    UnknownItemError,
    UnsupportedInputError,
    VersionNotFoundError,
)
from model.core.types import Modality
from tests.model.artifact.conftest import (
    DEPTH,
    ENCODER,
    RERANKER,
    WriteVersion,
    heads,
    items,
    manifest_of,
    neighbours,
    vectors,
)


@pytest.fixture
def root(store: VersionStore, write_version: WriteVersion) -> Path:
    write_version()
    return store.layout.root


@pytest.fixture
def artifact(root: Path) -> Artifact:
    return open_artifact(root)


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_arrays_come_back_as_they_went_in(artifact: Artifact) -> None:
    for modality in Modality:
        side, embeddings = artifact.side(modality), vectors(modality)
        codes = heads().encode(modality, embeddings)
        np.testing.assert_array_equal(side.embeddings, embeddings)
        np.testing.assert_array_equal(side.pq_codes, codes.pq_codes)
        np.testing.assert_array_equal(side.hamming.codes(), codes.hash_codes)
        np.testing.assert_array_equal(artifact.bank(modality), embeddings)
        # An oracle of the lists: sorted cosines, rounded.
        cosines = embeddings.astype(np.float32) @ vectors(modality.other).astype(np.float32).T
        wanted = -np.sort(-cosines, axis=1)[:, :DEPTH]
        assert side.reverse_lists is not None
        np.testing.assert_allclose(side.reverse_lists[:, : wanted.shape[1]], wanted, atol=1e-3)
    assert artifact.bank_partner is not None
    assert artifact.bank_partner.tolist() == [0, 0, 1, 1, 2, 2]


def test_arrays_are_mapped_not_loaded(artifact: Artifact) -> None:
    side = artifact.side(Modality.IMAGE)
    for array in (side.embeddings, side.pq_codes, side.reverse_lists):
        assert isinstance(array, np.memmap)


def test_neighbours_and_networks_come_back(artifact: Artifact) -> None:
    for modality in Modality:
        table = artifact.side(modality).neighbours
        assert table is not None
        for part, wanted in zip(
            (table.own, table.other, table.reach), neighbours(modality), strict=True
        ):
            assert isinstance(part, np.memmap)
            np.testing.assert_array_equal(part, wanted)
    assert artifact.pillar is not None
    assert artifact.pillar.config == RERANKER.config


def test_a_version_without_them_opens(store: VersionStore, write_version: WriteVersion) -> None:
    write_version("v1", pillar=None)
    artifact = open_artifact(store.layout.root)
    assert artifact.pillar is None
    assert {side.neighbours for side in artifact.sides.values()} == {None}


def test_a_manifest_from_before_the_pillar_re_ranker_is_read(tmp_path: Path) -> None:
    path, manifest = tmp_path / "manifest.json", manifest_of("v1", tmp_path)
    manifest.save(path)
    content = json.loads(path.read_text())
    del content["pillar"]
    path.write_text(json.dumps(content))
    assert Manifest.load(path) == manifest.model_copy(update={"pillar": None})


def test_networks_of_another_depth_than_the_tables_are_refused(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version("v1", pillar=PillarInfo(neighbours=4, trained_on=""))
    with pytest.raises(ArtifactError, match=r"neighbours\.npy should be int32 \(3, 4\)"):
        open_artifact(store.layout.root)


def test_items_and_ids_come_back(artifact: Artifact, tmp_path: Path) -> None:
    for modality, listed in items(tmp_path).items():
        for item in listed:
            assert artifact.find(item.id) == (modality, item.row)
            assert artifact.side(modality).items[item.row] == item


def test_a_caption_carries_its_images_metadata(artifact: Artifact) -> None:
    caption = artifact.item(Modality.TEXT, 3)
    assert (caption.caption, caption.partner) == ("caption 3", 1)
    assert caption.metadata == {"place": "süd", "n": 1}


def test_an_unknown_id_is_an_error_that_names_it(artifact: Artifact) -> None:
    with pytest.raises(UnknownItemError, match="'nowhere'"):
        artifact.find("nowhere")


def test_thumbnails_by_row(artifact: Artifact) -> None:
    assert [artifact.thumbnail(row) for row in range(3)] == [b"\0" * 5, None, b"\2" * 5]


def test_a_side_that_is_not_there_is_a_named_error(artifact: Artifact) -> None:
    artifact.sides.pop(Modality.TEXT)  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedInputError, match="holds no text items"):
        artifact.side(Modality.TEXT)


def test_the_manifest_survives_its_file(tmp_path: Path) -> None:
    manifest = manifest_of("v1", tmp_path)
    manifest.save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json") == manifest


def test_another_schema_version_is_refused_by_number(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifest_of("v1", tmp_path).save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": 99}))
    with pytest.raises(ArtifactError, match="schema version 99, this release reads 1"):
        Manifest.load(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        Manifest.load(tmp_path / "manifest.json")


def test_nothing_published_is_a_named_error(store: VersionStore) -> None:
    with pytest.raises(VersionNotFoundError, match="root is not there"):
        open_artifact(store.layout.root)
    store.layout.root.mkdir()
    with pytest.raises(VersionNotFoundError, match="no published version"):
        open_artifact(store.layout.root)


def test_an_unknown_version_is_named_with_those_there_are(root: Path) -> None:
    with pytest.raises(VersionNotFoundError, match="no version 'v9', it has v1"):
        open_artifact(root, "v9")


def test_no_flipped_byte_is_opened(root: Path) -> None:
    files = [path for path in (root / "versions" / "v1").rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        flip(path, at=path.stat().st_size // 2)
        with pytest.raises(ArtifactError) as caught:
            open_artifact(root)
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, DigestMismatchError)
        flip(path, at=path.stat().st_size // 2)
    open_artifact(root)


def test_a_flipped_byte_of_the_encoder_is_a_mismatch_of_the_encoder(root: Path) -> None:
    path = root / "encoders" / ENCODER[:16] / "encoder.safetensors"
    flip(path)
    with pytest.raises(EncoderMismatchError) as caught:
        open_artifact(root)
    assert "chunk 1" in str(caught.value)
    assert path.name in str(caught.value)


def test_another_encoder_in_the_snapshots_place_is_refused(root: Path) -> None:
    path = root / "encoders" / ENCODER[:16] / "encoder.safetensors"
    path.write_bytes(b"another encoder")
    with pytest.raises(EncoderMismatchError, match="should hold 2097152 bytes, holds 15"):
        open_artifact(root)


def test_an_encoder_with_another_digest_is_refused_with_both(artifact: Artifact) -> None:
    artifact.require_encoder(artifact.manifest.encoder)
    other = artifact.manifest.encoder.model_copy(update={"digest": "f" * 64})
    with pytest.raises(EncoderMismatchError) as caught:
        artifact.require_encoder(other)
    for part in ("manifest.json", ENCODER, "f" * 64):
        assert part in str(caught.value)


def test_large_files_are_read_once_then_remembered(root: Path) -> None:
    weights = root / "encoders" / ENCODER[:16] / "encoder.safetensors"
    state = weights.stat()
    open_artifact(root)
    flip(weights)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))  # nobody can see this one
    open_artifact(root)
    shutil.rmtree(root / "verified")
    with pytest.raises(EncoderMismatchError):
        open_artifact(root)


def test_a_copied_index_opens_and_is_read_again(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    flip(copy / "encoders" / ENCODER[:16] / "encoder.safetensors")
    with pytest.raises(EncoderMismatchError):
        open_artifact(copy)


@pytest.mark.parametrize("content", ['{"schema_version": 1, "counts": 3}', "[" * 100_000])
def test_a_broken_manifest_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(
        ArtifactError, match=r"manifest\.json (is no manifest|cannot be read)"
    ) as told:
        Manifest.load(path)
    assert "\n" not in str(told.value)


def test_a_version_under_another_name_is_refused(root: Path) -> None:
    (root / "versions" / "v1").rename(root / "versions" / "v2")
    with pytest.raises(ArtifactError, match="is of version v1, not of v2"):
        open_artifact(root, "v2")


def test_a_manifest_that_does_not_fit_the_arrays_is_refused(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version("v1", counts={Modality.IMAGE: 4, Modality.TEXT: 6})
    with pytest.raises(ArtifactError, match="should"):
        open_artifact(store.layout.root)


def test_heads_of_another_digest_are_refused(
    store: VersionStore, write_version: WriteVersion
) -> None:
    write_version("v1", heads_digest="0" * 64)
    with pytest.raises(ArtifactError, match=r"heads\.safetensors has digest"):
        open_artifact(store.layout.root)
