"""Galleries of scenes on disk: bytes, manifests, second runs and refusals."""

import hashlib
import json
from pathlib import Path

import pytest
from PIL import Image

from index_builder.scenes import SceneSplit, generate_gallery
from index_builder.scenes.__main__ import main
from model.core.errors import InputError


def digests(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_two_folders_of_one_seed_hold_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        generate_gallery(tmp_path / name, SceneSplit.TEST, 6, seed=5)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert len(digests(tmp_path / "one")) == 6 + 2


def test_another_seed_gives_another_gallery(tmp_path: Path) -> None:
    one = generate_gallery(tmp_path / "one", SceneSplit.TEST, 6, seed=5)
    two = generate_gallery(tmp_path / "two", SceneSplit.TEST, 6, seed=6)
    assert one.read_text() != two.read_text()


def test_manifest_lists_each_image_with_captions_and_metadata(tmp_path: Path) -> None:
    manifest = generate_gallery(tmp_path, SceneSplit.DEV, 4, seed=0)
    assert manifest == tmp_path / "dev.jsonl"
    items = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [item["id"] for item in items] == [f"dev-0000{i}" for i in range(4)]
    for item in items:
        assert set(item) == {"id", "path", "captions", "metadata"}
        assert item["path"] == f"images/{item['id']}.jpg"
        assert len(item["captions"]) == 5
        assert set(item["metadata"]) == {"n_objects", "background", "split"}
        assert item["metadata"]["split"] == "dev"
        with Image.open(tmp_path / item["path"]) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (128, 128), "RGB")


def test_a_longer_gallery_begins_with_the_shorter_one(tmp_path: Path) -> None:
    short = generate_gallery(tmp_path / "short", SceneSplit.DEV, 3, seed=0).read_text()
    long = generate_gallery(tmp_path / "long", SceneSplit.DEV, 5, seed=0).read_text()
    assert long.startswith(short)


def test_splits_share_a_folder(tmp_path: Path) -> None:
    for split in SceneSplit:
        generate_gallery(tmp_path, split, 2, seed=1)
    assert len(list((tmp_path / "images").iterdir())) == 8


def test_a_second_run_rebuilds_nothing(tmp_path: Path) -> None:
    generate_gallery(tmp_path, SceneSplit.DEMO, 3, seed=1)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    calls: list[None] = []
    generate_gallery(tmp_path, SceneSplit.DEMO, 3, seed=1, on_scene=lambda: calls.append(None))
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


class StoppedError(Exception):
    """Stands for a run that is interrupted."""


def test_an_interrupted_run_leaves_no_manifest_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        generate_gallery(tmp_path / "cut", SceneSplit.DEMO, 3, seed=1, on_scene=stop)
    first = tmp_path / "cut/images/demo-00000.jpg"
    written_at = first.stat().st_mtime_ns
    assert not (tmp_path / "cut/demo.jsonl").exists()
    generate_gallery(tmp_path / "cut", SceneSplit.DEMO, 3, seed=1)
    generate_gallery(tmp_path / "whole", SceneSplit.DEMO, 3, seed=1)
    assert first.stat().st_mtime_ns == written_at
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


@pytest.mark.parametrize(("n_scenes", "seed"), [(4, 1), (3, 2)])
def test_other_arguments_in_a_used_folder_are_refused(
    tmp_path: Path, n_scenes: int, seed: int
) -> None:
    generate_gallery(tmp_path, SceneSplit.DEMO, 3, seed=1)
    before = digests(tmp_path)
    with pytest.raises(InputError, match=rf'"n_scenes": 3, "seed": 1.*{n_scenes}, "seed": {seed}'):
        generate_gallery(tmp_path, SceneSplit.DEMO, n_scenes, seed)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("stranger", ["demo.jsonl", "images/demo-00000.jpg"])
def test_files_of_unknown_origin_are_refused_and_kept(tmp_path: Path, stranger: str) -> None:
    path = tmp_path / stranger
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(InputError, match=path.name):
        generate_gallery(tmp_path, SceneSplit.DEMO, 3, seed=1)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("n_scenes", [-1, 0, 100_001])
def test_a_count_out_of_range_is_refused_before_anything_is_written(
    tmp_path: Path, n_scenes: int
) -> None:
    with pytest.raises(InputError, match=f"1 to 100000 scenes, got {n_scenes}"):
        generate_gallery(tmp_path / "new", SceneSplit.DEMO, n_scenes, seed=1)
    assert not (tmp_path / "new").exists()


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 or more, got -1"):
        generate_gallery(tmp_path, SceneSplit.DEMO, 3, seed=-1)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(InputError, match="got the file"):
        generate_gallery(path, SceneSplit.DEMO, 3, seed=1)


def test_command_writes_every_split_asked_for(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--split", "dev=2", "--split", "test=3"]) == 0
    lines = [len((tmp_path / f"{s}.jsonl").read_text().splitlines()) for s in ("dev", "test")]
    assert lines == [2, 3]


@pytest.mark.parametrize("order", ["dev", "dev=", "dev=two", "dev=-2", "holdout=3", "dev=²"])
def test_command_exits_2_with_one_sentence_on_a_bad_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], order: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path), "--split", order])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.endswith(f"got {order}\n")


@pytest.mark.parametrize("arguments", [["--split", "dev=0"], ["--split", "dev=2", "--seed", "-1"]])
def test_command_returns_2_with_one_sentence_on_a_bad_count_or_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["--out", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
