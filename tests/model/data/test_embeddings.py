from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.core.errors import DataFormatError
from model.core.types import Modality
from model.data.open import open_collection
from model.data.records import ImageRef, Layout
from model.data.rows import ConcatenatedRows
from tests.model.data.conftest import ImageBytes

_IMAGES = np.arange(20, dtype=np.float16).reshape(5, 4)
_TEXTS = _IMAGES + 100


@pytest.fixture
def clip_retrieval(tmp_path: Path) -> Path:
    """Five items in two shards, the second of which has a column more."""
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    for shard, rows in enumerate((slice(0, 3), slice(3, 5))):
        np.save(tmp_path / f"img_emb/img_emb_{shard}.npy", _IMAGES[rows])
        np.save(tmp_path / f"text_emb/text_emb_{shard}.npy", _TEXTS[rows])
        names = [f"img{row}" for row in range(5)[rows]]
        columns = {"image_path": names, "caption": [f"about {name}" for name in names]}
        others = {"width": [64] * len(names)} if shard else {}
        table = pa.table(columns | others)
        pq.write_table(table, tmp_path / f"metadata/metadata_{shard}.parquet")
    return tmp_path


def test_shards_of_clip_retrieval_read_as_one_table(clip_retrieval: Path) -> None:
    collection = open_collection(clip_retrieval)
    assert collection.layout is Layout.EMBEDDINGS
    assert isinstance(collection.embeddings[Modality.IMAGE], ConcatenatedRows)
    assert np.array_equal(collection.embeddings[Modality.IMAGE][1:5], _IMAGES[1:5])
    assert np.array_equal(collection.embeddings[Modality.TEXT][np.array([4, 0])], _TEXTS[[4, 0]])
    assert collection.captions == [f"about img{row}" for row in range(5)]
    assert collection.caption_record.tolist() == collection.image_rows.tolist() == [0, 1, 2, 3, 4]
    records = list(collection.records)
    assert [record.id for record in records] == [f"img{row}" for row in range(5)]
    assert records[0].metadata == {"image_path": "img0", "width": None}
    assert records[4].metadata == {"image_path": "img4", "width": 64}
    assert records[4].image is None
    assert collection.records[-1] == collection.records[1:][3] == records[4]
    assert collection.records[4:1:-2] == [records[4], records[2]]
    with pytest.raises(IndexError, match="rows lie in 0 to 4, got 5"):
        collection.records[5]


def test_an_image_in_the_folder_is_found_by_its_path(
    clip_retrieval: Path, image_bytes: ImageBytes
) -> None:
    (clip_retrieval / "img3").write_bytes(image_bytes())
    records = open_collection(clip_retrieval).records
    assert [record.image for record in records][2:4] == [None, ImageRef(clip_retrieval / "img3")]


def test_an_image_path_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/image.npy", _IMAGES)
    paths = [f"../secret.jpg{'/' * row}" for row in range(4)]
    pq.write_table(
        pa.table({"image_path": [*paths, str(tmp_path / "secret.jpg")]}),
        tmp_path / "in/items.parquet",
    )
    assert [record.image for record in open_collection(tmp_path / "in").records] == [None] * 5


def test_a_missing_caption_keeps_the_row_of_its_embedding(clip_retrieval: Path) -> None:
    path = clip_retrieval / "metadata/metadata_1.parquet"
    pq.write_table(pa.table({"image_path": ["x", "y"], "caption": [None, "b"]}), path)
    collection = open_collection(clip_retrieval)
    assert collection.captions[3:] == ["", "b"]
    assert len(collection.captions) == len(collection.embeddings[Modality.TEXT])


def test_without_text_embeddings_a_missing_caption_is_none(clip_retrieval: Path) -> None:
    for path in (clip_retrieval / "text_emb").iterdir():
        path.unlink()
    path = clip_retrieval / "metadata/metadata_1.parquet"
    pq.write_table(pa.table({"image_path": ["x", "y"], "caption": [None, " "]}), path)
    collection = open_collection(clip_retrieval)
    assert set(collection.embeddings) == {Modality.IMAGE}
    assert collection.caption_record.tolist() == [0, 1, 2]
    assert collection.records[3].captions == ()


def test_rows_without_metadata_are_called_after_their_place(clip_retrieval: Path) -> None:
    for path in (clip_retrieval / "metadata").iterdir():
        path.unlink()
    collection = open_collection(clip_retrieval)
    assert collection.records[4].id == "row-4"
    assert collection.records[4].metadata == {}
    assert collection.captions == [""] * 5


def test_a_metadata_row_short_is_refused(clip_retrieval: Path) -> None:
    path = clip_retrieval / "metadata/metadata_1.parquet"
    pq.write_table(pq.read_table(path).slice(0, 1), path)
    with pytest.raises(DataFormatError, match="row of metadata for each of 5 images, got 4"):
        open_collection(clip_retrieval)


def test_a_text_embedding_short_is_refused(clip_retrieval: Path) -> None:
    np.save(clip_retrieval / "text_emb/text_emb_1.npy", _TEXTS[:1])
    with pytest.raises(DataFormatError, match="a caption for each of 4 text embeddings, got 5"):
        open_collection(clip_retrieval)


def test_a_repeated_key_is_named(clip_retrieval: Path) -> None:
    path = clip_retrieval / "metadata/metadata_1.parquet"
    pq.write_table(pa.table({"image_path": ["x", "img0"], "caption": ["a", "b"]}), path)
    with pytest.raises(DataFormatError, match="unique, got 'img0' twice"):
        open_collection(clip_retrieval)


def test_two_arrays_are_a_collection(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", _IMAGES[:2])
    np.save(tmp_path / "text.npy", _TEXTS[:4])
    collection = open_collection(tmp_path)
    assert [record.id for record in collection.records] == ["row-0", "row-1"]
    assert collection.caption_record.tolist() == [0, 0, 1, 1]
    (tmp_path / "ids.txt").write_text("a\nb\n")
    (tmp_path / "captions.txt").write_text("p\nq\nr\ns\n")
    collection = open_collection(tmp_path)
    assert [record.id for record in collection.records] == ["a", "b"]
    assert [record.captions for record in collection.records] == [("p", "q"), ("r", "s")]


def test_texts_alone_are_a_collection(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", _TEXTS)
    (tmp_path / "captions.txt").write_text("a\nb\nc\nd\ne\n")
    collection = open_collection(tmp_path)
    assert collection.captions == list("abcde")
    assert collection.image_rows.tolist() == []


def test_items_may_have_different_numbers_of_captions(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", _IMAGES[:3])
    np.save(tmp_path / "text.npy", _TEXTS[:3])
    captions = [["a", "b"], None, ["c"]]
    pq.write_table(pa.table({"captions": captions, "id": [3, 2, 1]}), tmp_path / "items.parquet")
    collection = open_collection(tmp_path)
    assert collection.captions == ["a", "b", "c"]
    assert collection.caption_record.tolist() == [0, 0, 2]
    assert [record.id for record in collection.records] == ["3", "2", "1"]
    assert [record.captions for record in collection.records] == [("a", "b"), (), ("c",)]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("captions.txt", "a\nb\nc\n", "as many captions for every item, got 3 for 2"),
        ("captions.txt", "caf\ud8e9", "needs to be a UTF-8 text file"),
        ("ids.txt", "a\n", "row of metadata for each of 2 images, got 1"),
    ],
)
def test_a_text_file_that_does_not_fit_is_refused(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    np.save(tmp_path / "image.npy", _IMAGES[:2])
    (tmp_path / file).write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(DataFormatError, match=message):
        open_collection(tmp_path)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 4)])
def test_parquet_columns_of_lists_are_embeddings(tmp_path: Path, kind: pa.DataType) -> None:
    for shard, rows in enumerate((slice(0, 3), slice(3, 5))):
        columns = {
            "id": [f"i{row}" for row in range(5)[rows]],
            "image_embedding": pa.array(_IMAGES[rows].astype(float).tolist(), kind),
            "caption": ["c"] * len(_IMAGES[rows]),
        }
        pq.write_table(pa.table(columns), tmp_path / f"part-{shard}.parquet")
    collection = open_collection(tmp_path)
    assert np.array_equal(collection.embeddings[Modality.IMAGE][:], _IMAGES)
    assert collection.records[4].id == "i4"
    assert collection.records[4].metadata == {}
    assert len(open_collection(tmp_path / "part-0.parquet").records) == 3


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([[1.0, 2.0], [3.0]], r"lists of one width, got \[2, 1\]"),
        ([[1.0, 2.0], None], "lists of one width"),
        ([[1.0, None], [3.0, 4.0]], "numbers only, got null"),
    ],
)
def test_lists_that_are_no_vectors_are_refused(
    tmp_path: Path, lists: list[object], message: str
) -> None:
    pq.write_table(pa.table({"embedding": lists}), tmp_path / "part.parquet")
    with pytest.raises(DataFormatError, match=f"column embedding needs {message}"):
        open_collection(tmp_path)


def test_metadata_shards_that_do_not_fit_are_refused(clip_retrieval: Path) -> None:
    path = clip_retrieval / "metadata/metadata_1.parquet"
    pq.write_table(pa.table({"image_path": ["x", "y"], "caption": [[1], [2]]}), path)
    with pytest.raises(DataFormatError, match="has Parquet files that do not fit"):
        open_collection(clip_retrieval)


def test_ids_and_captions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", _TEXTS)
    (tmp_path / "captions.txt").write_text("a\nb\n")
    (tmp_path / "ids.txt").write_text("x\ny\nz\n")
    with pytest.raises(DataFormatError, match="as many captions for every item, got 2 for 3"):
        open_collection(tmp_path)


def test_a_folder_of_embeddings_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "img_emb").mkdir()
    with pytest.raises(DataFormatError, match=r"needs img_emb/\*.npy or text_emb/\*.npy"):
        open_collection(tmp_path)
