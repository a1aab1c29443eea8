import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.core.errors import DataFormatError
from model.data.open import open_collection
from model.data.records import Collection, Layout
from tests.model.data.conftest import ImageBytes


def _jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _one(folder: Path, row: object) -> Collection:
    return open_collection(_jsonl(folder / "dev.jsonl", row))


def test_a_line_gives_id_image_captions_and_metadata(
    tmp_path: Path, image_bytes: ImageBytes
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(image_bytes())
    row = {
        "id": "A",
        "path": "images/a.jpg",
        "captions": [" one ", "two"],
        "metadata": {"n": 3},
        "licence": "CC0",
    }
    _jsonl(tmp_path / "dev.jsonl", row)
    collection = open_collection(f"{tmp_path}:dev")
    (record,) = collection.records
    assert collection.layout is Layout.MANIFEST
    assert collection.name == f"{tmp_path.name}:dev"
    assert (record.id, record.captions) == ("A", ("one", "two"))
    assert record.metadata == {"n": 3, "licence": "CC0"}
    assert record.image is not None
    assert record.image.read_bytes() == image_bytes()


def test_an_item_without_an_id_is_called_after_its_path_or_its_line(tmp_path: Path) -> None:
    manifest = _jsonl(
        tmp_path / "m.jsonl", {"path": "x/a.b.jpg"}, {"caption": "c"}, {"id": 7, "caption": "d"}
    )
    collection = open_collection(manifest)
    assert [record.id for record in collection.records] == ["x/a.b", "row-2", "7"]
    assert collection.image_rows.tolist() == [0]
    assert collection.captions == ["c", "d"]
    assert collection.caption_record.tolist() == [1, 2]


def test_a_parquet_manifest_reads_like_its_lines(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "path": "a.jpg", "captions": ["x", "y"], "metadata": {"n": 1}, "w": 2.5},
        {"id": "b", "path": "b.jpg", "captions": ["z"], "metadata": {"n": 2}, "w": None},
    ]
    _jsonl(tmp_path / "lines.jsonl", *rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    lines, table = open_collection(tmp_path, "lines"), open_collection(tmp_path, "rows")
    assert list(lines.records) == list(table.records)


def test_metadata_becomes_plain_json(tmp_path: Path) -> None:
    row = {
        "caption": "c",
        "when": datetime.datetime(2020, 1, 2, 3, 4),
        "raw": b"bytes",
        "score": float("nan"),
        "tags": [{"a": 1}],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "m.parquet")
    (record,) = open_collection(tmp_path).records
    assert record.metadata == {
        "when": "2020-01-02T03:04:00",
        "raw": None,
        "score": None,
        "tags": [{"a": 1}],
    }
    json.dumps(record.metadata, allow_nan=False)


def test_metadata_may_be_json_text(tmp_path: Path) -> None:
    (record,) = _one(tmp_path, {"caption": "c", "metadata": '{"n": 3}'}).records
    assert record.metadata == {"n": 3}


def test_an_absolute_path_inside_the_folder_is_taken(tmp_path: Path) -> None:
    (record,) = _one(tmp_path, {"path": f"{tmp_path}/x/../a.jpg"}).records
    assert record.image is not None
    assert record.image.path == tmp_path / "a.jpg"


@pytest.mark.parametrize("path", ["../a.jpg", "x/../../a.jpg", "/etc/passwd", ".", "a\0.jpg"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataFormatError, match="line 1 needs a path inside"):
        _one(tmp_path, {"path": path})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "line 1 needs a JSON object, got list"),
        ({"id": "a"}, "line 1 needs a path or captions, got neither"),
        ({"captions": []}, "line 1 needs a path or captions, got neither"),
        ({"captions": [""]}, "line 1, caption 0 needs at least one character"),
        ({"captions": {"a": 1}}, "line 1, caption 0 needs to be a text, got dict"),
        ({"caption": "\ud800"}, "line 1, caption 0 needs to be valid Unicode"),
        ({"caption": "c", "id": True}, "line 1, id needs to be a text, got bool"),
        ({"caption": "c", "id": " "}, "line 1, id needs at least one character"),
        ({"caption": "c", "metadata": [1]}, "line 1: metadata needs to be an object"),
        ({"caption": "c", "metadata": "{"}, "line 1: metadata is broken JSON"),
        ({"path": 3}, "line 1, path needs to be a text, got int"),
    ],
)
def test_a_line_that_breaks_the_form_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(DataFormatError, match=message):
        _one(tmp_path, row)


def test_broken_json_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"caption": "c"}\n\n{"caption"\n')
    with pytest.raises(DataFormatError, match=r"m.jsonl line 3 is broken JSON"):
        open_collection(tmp_path)


def test_a_repeated_id_is_named(tmp_path: Path) -> None:
    manifest = _jsonl(tmp_path / "m.jsonl", *[{"id": "x", "caption": "c"}] * 2)
    with pytest.raises(DataFormatError, match=r"ids of .*m.jsonl need to be unique, got 'x' twice"):
        open_collection(manifest)


def test_an_id_that_another_item_s_caption_has_is_named(tmp_path: Path) -> None:
    rows = [{"id": name, "caption": "c"} for name in ("y#0", "x", "x#0")]
    manifest = _jsonl(tmp_path / "m.jsonl", *rows)
    with pytest.raises(DataFormatError, match=r"'x#0' of .* is the id of a caption of 'x'"):
        open_collection(manifest)


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataFormatError, match=r"m.parquet is no readable Parquet file"):
        open_collection(tmp_path)


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text("\n")
    with pytest.raises(DataFormatError, match="holds at least one item, got none"):
        open_collection(tmp_path)
