import os
from pathlib import Path

import numpy as np
import pytest

from model.core.errors import DataFormatError
from model.data.open import open_collection
from model.data.records import Layout
from tests.model.data.conftest import ImageBytes, TarWriter


def test_an_image_folder_is_read_at_any_depth_in_natural_order(
    tmp_path: Path, image_bytes: ImageBytes
) -> None:
    names = ("b/img10.JPG", "b/img2.jpg", "a.png", ".hidden.jpg", ".cache/x.jpg", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(image_bytes())
    collection = open_collection(tmp_path)
    assert collection.layout is Layout.IMAGES
    assert [record.id for record in collection.records] == ["a", "b/img2", "b/img10"]
    assert collection.image_rows.tolist() == [0, 1, 2]
    assert collection.captions == []
    assert collection.caption_record.shape == (0,)


def test_images_that_differ_in_their_ending_alone_keep_it(
    tmp_path: Path, image_bytes: ImageBytes
) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        (tmp_path / name).write_bytes(image_bytes())
    ids = [record.id for record in open_collection(tmp_path).records]
    assert ids == ["a.jpg", "a.png", "b"]


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"caf\xe9-000.tar"])
def test_a_name_that_is_not_utf8_is_refused(
    tmp_path: Path, image_bytes: ImageBytes, write_tar: TarWriter, name: bytes
) -> None:
    path = tmp_path / os.fsdecode(name)
    if path.suffix == ".tar":
        write_tar(path, {"a.jpg": image_bytes()})
    else:
        path.write_bytes(image_bytes())
    with pytest.raises(DataFormatError, match=r"a file name needs to be UTF-8, got b'.*caf\\xe9"):
        open_collection(tmp_path)


def test_a_manifest_inside_an_image_folder_wins(tmp_path: Path, image_bytes: ImageBytes) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(image_bytes())
    (tmp_path / "manifest.jsonl").write_text('{"path": "b.jpg", "caption": "the second"}\n')
    (tmp_path / "other.jsonl").write_text('{"path": "a.jpg"}\n')
    collection = open_collection(tmp_path)
    assert collection.layout is Layout.MANIFEST
    assert collection.captions == ["the second"]


def test_several_manifests_need_a_name(tmp_path: Path) -> None:
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text('{"caption": "c"}\n')
    with pytest.raises(DataFormatError, match="name one as DIR:SPLIT: dev, train"):
        open_collection(tmp_path)
    assert len(open_collection(f"{tmp_path}:dev").records) == 1


def test_a_sub_folder_is_a_split(tmp_path: Path, image_bytes: ImageBytes) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/a.jpg").write_bytes(image_bytes())
    collection = open_collection(tmp_path, "dev")
    assert (collection.name, collection.layout) == (f"{tmp_path.name}:dev", Layout.IMAGES)


def test_a_folder_with_a_colon_is_a_folder(tmp_path: Path, image_bytes: ImageBytes) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(image_bytes())
    assert open_collection(folder).name == "a:b"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "holds no collection: looked for img_emb/.* or image files"),
        (":dev", r"has no split 'dev': looked for dev_ims.npy, dev-\*.tar, dev.jsonl"),
        ("/none", "none needs to be there, got no file or folder"),
        ("/none-*.tar", r"none-\*.tar needs to be there"),
        ("/notes.txt", "a file needs to be .tar, .jsonl, .parquet or .json, got .*notes.txt"),
    ],
)
def test_what_is_no_collection_is_refused_with_what_was_looked_for(
    tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataFormatError, match=message):
        open_collection(f"{tmp_path}{place}")


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("train", 6000), ("dev", 1000)])
def test_flickr8k_has_the_published_counts_in_both_layouts(
    data_dir: Path, split: str, count: int
) -> None:
    photos = open_collection(f"{data_dir / 'flickr8k'}:{split}")
    regions = open_collection(data_dir / "f8k_precomp", split)
    assert len(photos.records) == len(photos.image_rows) == len(regions.image_rows) == count
    assert len(photos.caption_record) == len(regions.caption_record) == 5 * count
    assert regions.regions is not None
    assert regions.regions.shape == (count, 16, 256)
    assert [f"{record.id}.jpg" for record in photos.records] == [r.id for r in regions.records]
    assert photos.captions == regions.captions
    assert np.array_equal(photos.caption_record, np.arange(5 * count) // 5)
