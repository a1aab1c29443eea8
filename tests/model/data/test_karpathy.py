import json
from pathlib import Path
from typing import Any

import pytest

from model.core.errors import DataFormatError
from model.data.open import open_collection
from model.data.records import Layout
from tests.model.data.conftest import ImageBytes


def entry(name: str, split: str, *captions: str, **others: object) -> dict[str, Any]:
    sentences = [{"raw": caption, "tokens": caption.split()} for caption in captions]
    return {"filename": name, "split": split, "sentences": sentences, **others}


def coco_entry(split: str, below: str, cocoid: int, *sentids: int) -> dict[str, Any]:
    made = entry(f"COCO_{below}_{cocoid:012d}.jpg", split, *[f"caption {i}" for i in sentids])
    for sentence, sentid in zip(made["sentences"], sentids, strict=True):
        sentence |= {"sentid": sentid, "imgid": 0}
    return {**made, "filepath": below, "cocoid": cocoid, "sentids": sorted(sentids), "imgid": 0}


def write(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps({"images": entries, "dataset": path.stem}))
    return path


FLICKR = (
    entry("a.jpg", "train", "one dog", " two dogs "),
    entry("b.jpg", "test", *["same words"] * 6),
    entry("c.jpg", "val", "three"),
    entry("d.jpg", "test", "four"),
)


@pytest.fixture(params=["", "images"])
def flickr(request: pytest.FixtureRequest, tmp_path: Path, image_bytes: ImageBytes) -> Path:
    """A split file with its images beside it, or in `images/`."""
    folder = tmp_path / "flickr30k"
    (folder / request.param).mkdir(parents=True)
    for number, name in enumerate("abcd", 4):
        (folder / request.param / f"{name}.jpg").write_bytes(image_bytes((number, 4)))
    write(folder / "dataset_flickr30k.json", *FLICKR)
    return folder


def test_a_split_is_read_in_the_file_s_order_with_any_number_of_captions(
    flickr: Path, image_bytes: ImageBytes
) -> None:
    collection = open_collection(flickr, "test")
    assert (collection.name, collection.layout) == ("flickr30k:test", Layout.KARPATHY)
    assert [record.id for record in collection.records] == ["b", "d"]
    assert [len(record.captions) for record in collection.records] == [6, 1]
    assert collection.caption_record.tolist() == [0] * 6 + [1]
    assert collection.image_rows.tolist() == [0, 1]
    image = collection.records[1].image
    assert image is not None
    assert image.read_bytes() == image_bytes((7, 4))
    assert open_collection(f"{flickr}:train").captions == ["one dog", "two dogs"]


def test_the_file_itself_opens_like_its_folder(flickr: Path) -> None:
    path = flickr / "dataset_flickr30k.json"
    for found in (open_collection(path, "val"), open_collection(f"{path}:val")):
        assert found.name == "dataset_flickr30k:val"
        assert list(found.records) == list(open_collection(flickr, "val").records)


def test_several_splits_need_a_name_and_a_single_one_none(flickr: Path) -> None:
    for place in (flickr, flickr / "dataset_flickr30k.json"):
        with pytest.raises(DataFormatError, match="name one as DIR:SPLIT: test, train, val"):
            open_collection(place)
    write(flickr / "dataset_flickr30k.json", FLICKR[2])
    assert open_collection(flickr).captions == ["three"]


def test_coco_lies_under_filepath_keeps_its_ids_and_trains_on_restval(
    tmp_path: Path, image_bytes: ImageBytes
) -> None:
    entries = [
        coco_entry("train", "train2014", 9, 31, 12),
        coco_entry("restval", "val2014", 5, 7),
        coco_entry("val", "val2014", 8, 4),
    ]
    write(tmp_path / "dataset_coco.json", *entries)
    for one in entries:
        (tmp_path / one["filepath"]).mkdir(exist_ok=True)
        (tmp_path / one["filepath"] / one["filename"]).write_bytes(image_bytes())
    collection = open_collection(tmp_path, "train")
    first, second = collection.records
    assert (first.id, second.id) == ("COCO_train2014_000000000009", "COCO_val2014_000000000005")
    # In the order of the captions, not in that of the image's own list.
    assert (first.metadata["cocoid"], first.metadata["sentids"]) == (9, [31, 12])
    assert second.metadata["split"] == "restval"
    assert "filename" not in first.metadata
    with pytest.raises(DataFormatError, match="has no split 'restval': it has train, val"):
        open_collection(tmp_path, "restval")


def test_the_other_layouts_come_first(flickr: Path, precomp: Path) -> None:
    (flickr / "test.jsonl").write_text('{"caption": "from the manifest"}\n')
    assert open_collection(flickr, "test").layout is Layout.MANIFEST
    write(precomp / "dataset_flickr30k.json", *FLICKR)
    assert open_collection(precomp, "dev").layout is Layout.PRECOMP


def test_what_other_tools_call_dataset_is_passed_over(
    tmp_path: Path, image_bytes: ImageBytes
) -> None:
    for name in ("dataset_info", "dataset_infos", "dataset_dict"):
        (tmp_path / f"{name}.json").write_text("{}")
    (tmp_path / "a.jpg").write_bytes(image_bytes())
    assert open_collection(tmp_path).layout is Layout.IMAGES


def test_several_split_files_need_one_to_be_given(flickr: Path) -> None:
    write(flickr / "dataset_coco.json")
    with pytest.raises(DataFormatError, match=r"give one: dataset_coco.json, dataset_flickr30k"):
        open_collection(flickr, "test")
    assert open_collection(flickr / "dataset_flickr30k.json", "test").captions


def test_a_split_that_is_not_there_is_named_with_those_that_are(flickr: Path) -> None:
    with pytest.raises(DataFormatError, match="has no split 'dev': it has test, train, val"):
        open_collection(flickr, "dev")


def test_a_missing_image_is_named_with_where_it_was_looked_for(flickr: Path) -> None:
    next(flickr.rglob("d.jpg")).unlink()
    wanted = r"json image 3 needs its file, looked for .*k/d.jpg or .*k/images/d.jpg"
    with pytest.raises(DataFormatError, match=wanted):
        open_collection(flickr, "test")
    assert open_collection(flickr, "val").captions == ["three"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [', r"json is broken JSON: Expecting value"),
        ("[" * 100_000, "json is broken JSON"),
        ("[]", 'needs an object with a list "images", got list'),
        ("{}", 'needs an object with a list "images", got NoneType'),
        ('{"images": {}}', 'needs an object with a list "images", got dict'),
        ('{"images": []}', "has no split 'test': it has none"),
        ('{"images": [3]}', "json image 0 needs to be an object, got int"),
    ],
)
def test_a_file_that_breaks_the_form_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset_coco.json").write_text(text)
    with pytest.raises(DataFormatError, match=message):
        open_collection(tmp_path, "test")


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(b'{"images": "caf\xe9"}')
    with pytest.raises(DataFormatError, match="json is broken JSON: 'utf-8' codec"):
        open_collection(tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": None}, "image 0, split needs to be a text, got NoneType"),
        ({"filename": 3}, "image 0, filename needs to be a text, got int"),
        ({"filename": " "}, "image 0, filename needs at least one character"),
        ({"filename": "../x.jpg"}, "image 0 needs a path inside"),
        ({"filepath": "/etc"}, "image 0 needs a path inside"),
        ({"filepath": 7}, "image 0, filepath needs to be a text, got int"),
        ({"filename": "."}, "image 0 needs a path inside"),
        ({"sentences": "words"}, "image 0, sentences need to be a list, got str"),
        ({"sentences": ["words"]}, "image 0, sentence 0 needs to be an object, got str"),
        ({"sentences": [{"tokens": ["a"]}]}, "sentence 0, raw needs to be a text, got NoneType"),
        ({"sentences": [{"raw": "\n"}]}, "sentence 0, raw needs at least one character"),
    ],
)
def test_an_entry_that_breaks_the_form_is_named(
    tmp_path: Path, image_bytes: ImageBytes, change: dict[str, object], message: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes())
    write(tmp_path / "dataset_coco.json", {**entry("a.jpg", "test", "a caption"), **change})
    with pytest.raises(DataFormatError, match=message):
        open_collection(tmp_path, "test")


def test_an_image_that_stands_twice_is_named(tmp_path: Path, image_bytes: ImageBytes) -> None:
    (tmp_path / "a.jpg").write_bytes(image_bytes())
    write(tmp_path / "dataset_coco.json", *[entry("a.jpg", "test", "a caption")] * 2)
    with pytest.raises(DataFormatError, match="unique, got 'a' twice"):
        open_collection(tmp_path, "test")
