from pathlib import Path

import numpy as np
import pytest

from model.core.errors import DataFormatError
from model.data.open import open_collection
from model.data.records import Layout


def test_a_split_gives_an_image_a_record_with_its_five_captions(precomp: Path) -> None:
    collection = open_collection(f"{precomp}:dev")
    assert collection.layout is Layout.PRECOMP
    assert [record.id for record in collection.records] == ["a.jpg", "b.jpg", "c.jpg"]
    assert collection.records[1].captions == tuple(f"caption {i} of image 1" for i in range(5))
    assert collection.records[1].caption_id(2) == "b.jpg#2"
    assert collection.captions[14] == "caption 4 of image 2"
    assert collection.caption_record.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert collection.image_rows.tolist() == [0, 1, 2]
    assert collection.regions is not None
    assert collection.regions[2:3].tolist() == [[[16, 17], [18, 19], [20, 21], [22, 23]]]


def test_images_repeated_per_caption_are_read_once_without_a_copy(precomp: Path) -> None:
    plain = open_collection(precomp, "dev").regions
    np.save(precomp / "dev_ims.npy", np.repeat(np.asarray(plain), 5, axis=0))
    repeated = open_collection(precomp, "dev").regions
    assert isinstance(repeated, np.memmap)
    assert repeated.shape == (3, 4, 2)
    assert np.array_equal(repeated, np.arange(24).reshape(3, 4, 2))


def test_ids_are_optional(precomp: Path) -> None:
    (precomp / "dev_ids.txt").unlink()
    ids = [record.id for record in open_collection(precomp).records]
    assert ids == ["dev-000000", "dev-000001", "dev-000002"]


def test_a_unicode_line_separator_does_not_end_a_caption(precomp: Path) -> None:
    captions = ["one\u2028line"] * 15
    (precomp / "dev_caps.txt").write_text("\n".join(captions), encoding="utf-8")
    assert open_collection(precomp).captions == captions


def test_a_caption_line_short_is_refused_with_both_counts(precomp: Path) -> None:
    lines = (precomp / "dev_caps.txt").read_text().splitlines()
    (precomp / "dev_caps.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataFormatError, match=r"dev_caps.txt .* got 14 captions for 3 rows"):
        open_collection(precomp)


def test_a_caption_line_short_is_refused_where_images_are_repeated(precomp: Path) -> None:
    np.save(precomp / "dev_ims.npy", np.ones((15, 4, 2), np.float32))
    lines = (precomp / "dev_caps.txt").read_text().splitlines()
    (precomp / "dev_caps.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(DataFormatError, match="got 14 captions for 15 rows"):
        open_collection(precomp)


def test_as_many_different_rows_as_captions_are_not_taken_for_repeated(precomp: Path) -> None:
    np.save(precomp / "dev_ims.npy", np.arange(120, dtype=np.float32).reshape(15, 4, 2))
    with pytest.raises(DataFormatError, match="got 15 captions for 15 rows"):
        open_collection(precomp)


def test_an_id_short_is_refused_with_both_counts(precomp: Path) -> None:
    (precomp / "dev_ids.txt").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(DataFormatError, match="an id for each of 3 images, got 2"):
        open_collection(precomp)


def test_a_repeated_id_is_named(precomp: Path) -> None:
    (precomp / "dev_ids.txt").write_text("a.jpg\nb.jpg\na.jpg\n")
    with pytest.raises(DataFormatError, match=r"unique, got 'a.jpg' twice"):
        open_collection(precomp)


def test_an_empty_caption_is_refused_with_its_line(precomp: Path) -> None:
    (precomp / "dev_caps.txt").write_text("a\nb\n\n" + "c\n" * 12)
    with pytest.raises(DataFormatError, match=r"dev_caps.txt line 3 .* got none"):
        open_collection(precomp)


def test_captions_that_are_not_utf8_are_refused(precomp: Path) -> None:
    (precomp / "dev_caps.txt").write_bytes(b"caf\xe9\n" * 15)
    with pytest.raises(DataFormatError, match=r"dev_caps.txt needs to be a UTF-8 text file"):
        open_collection(precomp)


def test_missing_captions_are_named(precomp: Path) -> None:
    (precomp / "dev_caps.txt").unlink()
    with pytest.raises(DataFormatError, match=r"dev_caps.txt"):
        open_collection(precomp)


def test_features_of_the_wrong_shape_are_refused(precomp: Path) -> None:
    np.save(precomp / "dev_ims.npy", np.ones((3, 8), np.float32))
    with pytest.raises(DataFormatError, match=r"3 dimensions, got float32 of shape \(3, 8\)"):
        open_collection(precomp)
