import gzip
import io
import tarfile
from pathlib import Path

import pytest

from model.core.errors import DataFormatError
from model.data.open import open_collection
from model.data.records import ImageRef, Layout
from tests.model.data.conftest import ImageBytes, TarWriter, sample_json


def test_samples_are_grouped_by_stem_and_read_in_place(
    tmp_path: Path, image_bytes: ImageBytes, write_tar: TarWriter
) -> None:
    first, second = image_bytes((8, 6)), image_bytes((5, 7), kind="PNG")
    write_tar(
        tmp_path / "dev-0000.tar",
        {"x/a.jpg": first, "x/a.json": sample_json("one", "two", url="u"), "x/b.png": second},
    )
    collection = open_collection(tmp_path, "dev")
    a, b = collection.records
    assert collection.layout is Layout.WEBDATASET
    assert (a.id, a.captions, a.metadata) == ("x/a", ("one", "two"), {"url": "u"})
    assert (b.id, b.captions, b.metadata) == ("x/b", (), {})
    assert isinstance(a.image, ImageRef)
    assert isinstance(b.image, ImageRef)
    assert a.image.read_bytes() == first
    assert b.image.read_bytes() == second
    assert b.image.read_bytes(at_most=4) == second[:4]
    assert [path.name for path in tmp_path.iterdir()] == ["dev-0000.tar"]


def test_a_text_file_gives_a_caption_a_line(tmp_path: Path, write_tar: TarWriter) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.txt": b"a dog\n\na cat\n"})
    (record,) = open_collection(shard).records
    assert (record.image, record.captions) == (None, ("a dog", "a cat"))
    assert open_collection(shard).image_rows.tolist() == []


def test_json_captions_go_before_the_text_file(tmp_path: Path, write_tar: TarWriter) -> None:
    members = {"a.txt": b"from txt", "a.json": b'{"caption": "from json"}'}
    (record,) = open_collection(write_tar(tmp_path / "s.tar", members)).records
    assert record.captions == ("from json",)


def test_only_a_plain_image_ending_makes_an_image(
    tmp_path: Path, image_bytes: ImageBytes, write_tar: TarWriter
) -> None:
    members = {
        "a.jpg": image_bytes(),
        "a.seg.png": b"mask",
        "a.cls": b"3",
        "__key__": b"",
        "._a.jpg": b"",
    }
    (record,) = open_collection(write_tar(tmp_path / "s.tar", members)).records
    assert record.image is not None
    assert record.image.read_bytes() == members["a.jpg"]


def test_shards_come_in_the_order_of_their_numbers(tmp_path: Path, write_tar: TarWriter) -> None:
    for number in (10, 2, 1):
        write_tar(tmp_path / f"train-{number}.tar", {f"{number}.txt": b"a"})
    write_tar(tmp_path / "dev-0.tar", {"d.txt": b"a"})
    ids = [record.id for record in open_collection(f"{tmp_path}:train").records]
    assert ids == ["1", "2", "10"]
    braces = open_collection(f"{tmp_path}/train-{{1..2}}.tar").records
    assert [record.id for record in braces] == ["1", "2"]
    stars = open_collection(f"{tmp_path}/*-{{0,10}}.tar").records
    assert [record.id for record in stars] == ["d", "10"]


def test_several_splits_need_a_name(tmp_path: Path, write_tar: TarWriter) -> None:
    for split in ("train", "dev"):
        write_tar(tmp_path / f"{split}-0.tar", {f"{split}.txt": b"a"})
    with pytest.raises(DataFormatError, match="several splits, name one as DIR:SPLIT: dev, train"):
        open_collection(tmp_path)


def test_an_id_in_two_shards_is_named(tmp_path: Path, write_tar: TarWriter) -> None:
    for number in range(2):
        write_tar(tmp_path / f"s-{number}.tar", {"same.txt": b"a"})
    with pytest.raises(DataFormatError, match="unique, got 'same' twice"):
        open_collection(tmp_path)


def test_a_member_that_stands_twice_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for _ in range(2):
            info = tarfile.TarInfo("a.txt")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(DataFormatError, match="unique, got 'a' twice"):
        open_collection(tmp_path)


def test_a_tar_cut_anywhere_is_refused(
    tmp_path: Path, image_bytes: ImageBytes, write_tar: TarWriter
) -> None:
    shard = write_tar(
        tmp_path / "s.tar", {"a.jpg": image_bytes(), "a.txt": b"a", "b.txt": b"b" * 600}
    )
    whole = shard.read_bytes()
    data_end = whole.rindex(b"bbb") + 3
    padded_end = -(-data_end // 512) * 512
    for kept in range(1, padded_end + 512, 101):
        shard.write_bytes(whole[:kept])
        with pytest.raises(DataFormatError, match=r"s.tar is (cut short|no whole)"):
            open_collection(shard)


def test_a_compressed_tar_is_refused(tmp_path: Path, write_tar: TarWriter) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.txt": b"a"})
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(DataFormatError, match="no whole, uncompressed tar"):
        open_collection(shard)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.json", b"{", "sample 'a' has broken JSON"),
        ("a.json", b"[1]", "sample 'a' needs a JSON object, got list"),
        ("a.json", b"\xff\xfe", "sample 'a' needs UTF-8"),
        ("a.json", b'{"captions": [3]}', "sample 'a', caption 0 needs to be a text, got int"),
        ("a.json", b'{"captions": ["ok", " "]}', "caption 1 needs at least one character"),
        ("a.json", b'{"width": 3}', "sample 'a' needs an image or captions, got neither"),
        ("a.json", b"[" * 100_000, "sample 'a' has broken JSON"),
    ],
)
def test_a_sample_that_breaks_the_form_is_named(
    tmp_path: Path, write_tar: TarWriter, name: str, data: bytes, message: str
) -> None:
    shard = write_tar(tmp_path / "s.tar", {name: data})
    with pytest.raises(DataFormatError, match=message):
        open_collection(shard)


def test_a_sample_with_two_images_is_named(
    tmp_path: Path, image_bytes: ImageBytes, write_tar: TarWriter
) -> None:
    members = {"a.jpg": image_bytes(), "a.png": image_bytes(kind="PNG")}
    with pytest.raises(DataFormatError, match="sample 'a' needs one image, got two"):
        open_collection(write_tar(tmp_path / "s.tar", members))


def test_a_shard_that_shrank_is_noticed_when_its_image_is_read(
    tmp_path: Path, image_bytes: ImageBytes, write_tar: TarWriter
) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.jpg": image_bytes()})
    (record,) = open_collection(shard).records
    shard.write_bytes(shard.read_bytes()[:600])
    assert record.image is not None
    with pytest.raises(DataFormatError, match="ends inside the image at byte 512"):
        record.image.read_bytes()
    shard.unlink()
    with pytest.raises(DataFormatError, match=r"s.tar cannot be read: No such file"):
        record.image.read_bytes()
