import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from index_builder.cli import main
from model.artifact.reader import open_artifact
from model.artifact.store import VersionStore
from model.core.errors import DataFormatError, UnsupportedInputError
from model.core.types import Modality
from model.encoders.opening import open_encoder
from tests.index_builder.conftest import CAPTIONS_EACH, DIM, N_PHOTOS, Built, items_of
from tests.support.pictures import huge_png


def test_embeddings_are_the_encoders_own(photos: Path, build: Built, clip: Path) -> None:
    artifact = build(photos, clip, batch_size=5, shard_size=4)
    encoder = open_encoder(clip)
    images = [Image.open(photos / f"{row}.png").convert("RGB") for row in range(N_PHOTOS)]
    captions = [text for row in range(N_PHOTOS) for text in (f"picture {row}", f"the {row}th one")]
    for modality, wanted in [
        (Modality.IMAGE, encoder.encode_images(images)),
        (Modality.TEXT, encoder.encode_texts(captions)),
    ]:
        np.testing.assert_allclose(artifact.side(modality).embeddings, wanted, atol=1e-3)
    assert [item.caption for item in items_of(artifact, Modality.TEXT)] == captions


def test_the_root_holds_the_encoder(photos: Path, build: Built, clip: Path) -> None:
    artifact = build(photos, clip)
    inside = open_encoder(artifact.encoder_source)
    assert Path(artifact.encoder_source).is_relative_to(artifact.root)
    artifact.require_encoder(inside.identity)


def test_versions_share_one_snapshot(photos: Path, build: Built, clip: Path) -> None:
    build(photos, clip)
    artifact = build(photos, clip, z=5)
    assert len(VersionStore(artifact.root).names()) == 2
    assert len(list((artifact.root / "encoders").iterdir())) == 1


def test_metadata_sources_and_thumbnails(photos: Path, build: Built, clip: Path) -> None:
    Image.new("RGB", (800, 400), "red").save(photos / "3.png")
    artifact = build(photos, clip)
    item = artifact.item(Modality.IMAGE, 3)
    assert item.metadata["number"] == 3
    assert item.image is not None
    assert item.image.read_bytes() == (photos / "3.png").read_bytes()
    thumbnail = artifact.thumbnail(3)
    assert thumbnail is not None
    small = Image.open(io.BytesIO(thumbnail))
    assert (small.format, small.size) == ("WEBP", (256, 128))


def test_thumbnails_can_be_left_out(photos: Path, build: Built, clip: Path) -> None:
    artifact = build(photos, clip, thumbnails=False)
    assert not artifact.manifest.thumbnails
    assert artifact.thumbnail(0) is None
    assert not list(artifact.root.rglob("thumbnails*"))


def spoil(photos: Path) -> dict[str, str]:
    """Four bad images by id, each with a word of the reason."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, "JPEG")
    (photos / "1.png").write_text("a text file")
    (photos / "4.png").write_bytes(whole.getvalue()[:600])
    Image.new("RGB", (1, 1)).save(photos / "7.png")
    (photos / "9.png").write_bytes(huge_png(30_000))
    return {"1": "an image is a", "4": "broken", "7": "1x1", "9": "30000x30000"}


def test_bad_images_are_listed_and_left_out_with_their_captions(
    photos: Path, build: Built, clip: Path
) -> None:
    reasons = spoil(photos)
    artifact = build(photos, clip, shard_size=5)
    good = [row for row in range(N_PHOTOS) if str(row) not in reasons]
    assert [item.metadata["number"] for item in items_of(artifact, Modality.IMAGE)] == good
    captions = [item.caption for item in items_of(artifact, Modality.TEXT)]
    assert captions == [text for n in good for text in (f"picture {n}", f"the {n}th one")]
    for text, item in enumerate(items_of(artifact, Modality.TEXT)):
        assert item.partner == text // CAPTIONS_EACH
    path = artifact.root / "versions" / artifact.version / "report.json"
    report = json.loads(path.read_text())["gallery"]
    assert artifact.manifest.skipped == len(report["skipped"]) == len(reasons)
    for one, (name, word) in zip(report["skipped"], reasons.items(), strict=True):
        assert one["source"] == str(photos / f"{name}.png")
        assert word in one["reason"]


def test_too_many_bad_images_fail_and_leave_what_is_published(
    photos: Path, build: Built, clip: Path
) -> None:
    before = build(photos, clip).version
    spoil(photos)
    with pytest.raises(
        DataFormatError, match=r"4 records of .* at most 3 may be skipped"
    ) as caught:
        build(photos, clip, max_bad=3)
    store = VersionStore(photos.parent / "root")
    assert (store.current(), store.names()) == (before, [before])
    report = store.layout.work / "report.json"
    assert str(report) in str(caught.value)
    assert len(json.loads(report.read_text())["skipped"]) == 4
    assert build(photos, clip, max_bad=4).manifest.skipped == 4


def test_no_readable_image_at_all_is_an_error(photos: Path, build: Built, clip: Path) -> None:
    for path in photos.glob("*.png"):
        path.write_text("no image")
    with pytest.raises(DataFormatError, match="no readable image"):
        build(photos, clip, max_bad=100)


def test_an_empty_gallery_is_an_error(tmp_path: Path, build: Built, clip: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFormatError, match="empty holds no collection: looked for"):
        build(tmp_path / "empty", clip)
    assert not (tmp_path / "root" / "versions").exists()


def test_images_need_an_encoder(photos: Path, build: Built) -> None:
    with pytest.raises(UnsupportedInputError, match="'none' accepts vector, got image"):
        build(photos)


def test_regions_need_an_encoder_that_takes_them(tmp_path: Path, build: Built, clip: Path) -> None:
    np.save(tmp_path / "dev_ims.npy", np.ones((2, 4, DIM), dtype=np.float32))
    (tmp_path / "dev_caps.txt").write_text("caption\n" * 10)
    with pytest.raises(UnsupportedInputError, match="accepts image, text, vector, got regions"):
        build(f"{tmp_path}:dev", clip)


def test_a_changed_image_makes_another_version(photos: Path, tmp_path: Path, clip: Path) -> None:
    root = tmp_path / "root"
    flags = ["--gallery", str(photos), "--encoder", str(clip), "--out", str(root)]
    assert main(flags) == main(flags) == 0
    store = VersionStore(root)
    (before,) = store.names()
    shutil.copyfile(photos / "1.png", photos / "0.png")
    assert main(flags) == 0
    assert store.names() == [before, store.current()]
    after = open_artifact(root).side(Modality.IMAGE).embeddings
    np.testing.assert_array_equal(after[0], after[1])


def test_a_killed_build_goes_on_where_it_was(photos: Path, build: Built, clip: Path) -> None:
    first = build(photos, clip, seed=1)
    root = first.root
    arguments = ["--gallery", str(photos), "--encoder", str(clip), "--out", str(root)]
    command = [sys.executable, "-m", "index_builder.cli", *arguments, "--shard-size", "1"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not list((root / "work").glob("[!.]*.npz")) and time.monotonic() < until:
            time.sleep(0.002)
        process.kill()
    done = {path: path.stat().st_mtime_ns for path in (root / "work").glob("[!.]*.npz")}
    store = VersionStore(root)
    assert 0 < len(done) <= N_PHOTOS
    assert (store.current(), store.names()) == (first.version, [first.version])

    kept: dict[Path, int] = {}
    publish = VersionStore.publish

    def watched(self: VersionStore, directory: Path, version: str, keep: int) -> Path:
        kept.update({path: path.stat().st_mtime_ns for path in done})
        return publish(self, directory, version, keep)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VersionStore, "publish", watched)
        second = build(photos, clip, shard_size=1)
    assert kept == done  # not one of them was written again
    assert store.current() == second.version
    assert not store.layout.work.exists()
    for modality in Modality:
        ours, theirs = (one.side(modality).embeddings for one in (first, second))
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
