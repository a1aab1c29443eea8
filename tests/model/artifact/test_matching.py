from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.artifact.items import NO_ROW, Item
from model.artifact.matching import ItemMatcher
from model.core.filters import Filter, Kind
from model.core.lru import ByteLru
from model.core.types import Modality
from tests.model.artifact.test_items import written

IMAGES = [Item(f"i{row}", Modality.IMAGE, row, metadata={"row": row}) for row in range(3)]
PARTNERS = [2, NO_ROW, 0, 2]
CAPTIONS = [
    Item(f"c{row}", Modality.TEXT, row, "a", partner=partner, metadata={"row": 2, "id": "x"})
    for row, partner in enumerate(PARTNERS)
]


@pytest.mark.parametrize(
    ("asked", "with_images", "rows"),
    [
        ({"row": 2}, True, [0, 1, 3]),  # the second has no image, so its own metadata counts
        ({"row": {"lt": 2}}, True, [2]),
        ({"row": 2}, False, [0, 1, 2, 3]),
        ({"id": "c1"}, True, [1]),
        ({"id": {"in": ["c0", "c3", "i0", 3]}, "row": 2}, True, [0, 3]),
        ({"id": None}, True, []),
    ],
)
def test_a_caption_has_the_metadata_that_its_hit_shows(
    tmp_path: Path, asked: dict[str, object], with_images: bool, rows: list[int]
) -> None:
    images = written(tmp_path, IMAGES, Modality.IMAGE) if with_images else None
    matcher = ItemMatcher(written(tmp_path, CAPTIONS, Modality.TEXT), images, ByteLru(1 << 20))
    for _ in range(2):  # the second time from kept columns
        assert matcher.mask(Filter.of(asked)).nonzero()[0].tolist() == rows


@pytest.mark.parametrize(
    ("field", "kinds"),
    [
        ("row", {Kind.NUMBER}),
        ("mixed", {Kind.NUMBER, Kind.TEXT, Kind.TRUTH}),
        ("licence", set()),
        ("id", {Kind.TEXT}),
        ("alone", {Kind.NUMBER}),  # in a caption without an image, which speaks for itself
        ("deep", set()),  # objects, which equal nothing
        ("deep.er", {Kind.NUMBER}),
    ],
)
def test_the_kinds_of_values_that_items_have_in_a_field_are_told(
    tmp_path: Path, field: str, kinds: set[Kind]
) -> None:
    told: dict[str, Any] = {"row": 1, "deep": {"er": 3}, "mixed": ["3", 0.5, True, None], "id": 9}
    images = [replace(one, metadata=told) for one in IMAGES]
    captions = [
        replace(one, metadata={"alone" if one.partner == NO_ROW else "only": 3}) for one in CAPTIONS
    ]
    matcher = ItemMatcher(
        written(tmp_path, captions, Modality.TEXT),
        written(tmp_path, images, Modality.IMAGE),
        ByteLru(1 << 20),
    )
    assert matcher.kinds(field) == kinds


def test_metadata_of_captions_whose_images_speak_for_them_counts_for_nothing(
    tmp_path: Path,
) -> None:
    paired = [one for one in CAPTIONS if one.partner != NO_ROW]
    captions = [replace(one, row=row, metadata={"own": 3}) for row, one in enumerate(paired)]
    written_captions = written(tmp_path, captions, Modality.TEXT)
    images = written(tmp_path, IMAGES, Modality.IMAGE)
    for asked_images, known in ((images, "row"), (None, "own")):
        matcher = ItemMatcher(written_captions, asked_images, ByteLru(1 << 20))
        told = {field: matcher.kinds(field) for field in ("own", "row")}
        assert [field for field, kinds in told.items() if kinds] == [known]
