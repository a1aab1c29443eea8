import hashlib
import string
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from model.artifact.items import Item, ItemsWriter, ItemTable, id_hash
from model.artifact.layout import SideLayout
from model.core.errors import ArtifactError
from model.core.types import Modality
from model.data.records import ImageRef

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


def written(folder: Path, items: list[Item], modality: Modality, batch: int = 2) -> ItemTable:
    layout = SideLayout(folder / modality)
    with ItemsWriter(layout, folder) as writer:
        for start in range(0, len(items), batch):
            writer.append(items[start : start + batch])
    return ItemTable(modality, layout, folder)


@settings(max_examples=30)
@given(
    ids=st.lists(st.text(min_size=1), min_size=1, max_size=9, unique=True),
    metadata=st.dictionaries(st.text(), JSON, max_size=3),
    caption=st.none() | st.text(),
)
def test_items_come_back_as_they_went_in(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[str],
    metadata: dict[str, JsonValue],
    caption: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("items")
    items = [
        Item(one, Modality.TEXT, row, caption, partner=row - 1, metadata=metadata)
        for row, one in enumerate(ids)
    ]
    table = written(folder, items, Modality.TEXT)
    assert [table[row] for row in range(len(table))] == items
    assert [table.row(one) for one in ids] == list(range(len(ids)))
    assert [table.id(row) for row in range(len(ids))] == ids
    shown = [(one.id, one.caption, one.partner, one.metadata, False) for one in items]
    assert [table.shown(row) for row in range(len(table))] == shown


def test_a_source_is_seen_without_its_path(tmp_path: Path) -> None:
    sources = [None, ImageRef(tmp_path / "a.png"), ImageRef(tmp_path / "b.tar", 512, 7)]
    items = [Item(f"{row}", Modality.IMAGE, row, image=one) for row, one in enumerate(sources)]
    table = written(tmp_path, items, Modality.IMAGE)
    assert [table.shown(row).pictured for row in range(3)] == [False, True, True]
    for row in (-1, 3):
        with pytest.raises(IndexError, match=rf"row {row} is outside 0\.\.2"):
            table.shown(row)


def test_an_unknown_id_has_no_row(tmp_path: Path) -> None:
    table = written(tmp_path, [Item("a", Modality.TEXT, 0)], Modality.TEXT)
    assert table.row("b") is None


def test_ids_whose_hashes_collide_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.artifact.items.id_hash", lambda _: 7)
    items = [Item(one, Modality.TEXT, row) for row, one in enumerate("abc")]
    table = written(tmp_path, items, Modality.TEXT)
    assert [table.row(one) for one in "abcd"] == [0, 1, 2, None]


def test_the_hash_of_an_id_never_changes() -> None:
    # The first eight bytes of BLAKE2b-64 of "photo-1", low byte first, as `b2sum -l 64` says it.
    digest = hashlib.blake2b(b"photo-1", digest_size=8).digest()
    assert id_hash("photo-1") == int.from_bytes(digest, "little")


def test_sources_below_the_gallery_move_with_it(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    inside = Item("in", Modality.IMAGE, 0, image=ImageRef(here / "a.tar", 512, 9))
    outside = Item("out", Modality.IMAGE, 1, image=ImageRef(tmp_path / "b.jpg"))
    written(here, [inside, outside], Modality.IMAGE)
    table = ItemTable(Modality.IMAGE, SideLayout(here / "image"), there)
    assert table[0].image == ImageRef(there / "a.tar", 512, 9)
    assert table[1].image == ImageRef(tmp_path / "b.jpg", 0, None)


def test_rows_outside_are_refused(tmp_path: Path) -> None:
    table = written(tmp_path, [Item("a", Modality.TEXT, 0)], Modality.TEXT)
    for row in (-1, 1):
        with pytest.raises(IndexError, match=r"outside 0\.\.0"):
            table[row]


def test_partners_of_both_sides(tmp_path: Path) -> None:
    texts = [
        Item(c, Modality.TEXT, i, partner=p)
        for i, (c, p) in enumerate(zip("abc", [0, 0, -1], strict=True))
    ]
    first, count = written(tmp_path, texts, Modality.TEXT).partners()
    assert (first.tolist(), count.tolist()) == ([0, 0, -1], [1, 1, 0])
    image = Item("i", Modality.IMAGE, 0, first_caption=0, n_captions=2)
    first, count = written(tmp_path, [image], Modality.IMAGE).partners()
    assert (first.tolist(), count.tolist()) == ([0], [2])
    assert list(image.caption_rows) == [0, 1]


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [Item("a", Modality.TEXT, 0)], Modality.TEXT)
    path = tmp_path / "text" / "items.arrow"
    table = pa.table({"id": list(string.ascii_lowercase)})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ArtifactError, match="should have columns"):
        ItemTable(Modality.TEXT, SideLayout(tmp_path / "text"), tmp_path)


def test_a_file_that_is_no_arrow_is_refused(tmp_path: Path) -> None:
    written(tmp_path, [Item("a", Modality.TEXT, 0)], Modality.TEXT)
    (tmp_path / "text" / "items.arrow").write_bytes(b"no arrow at all")
    with pytest.raises(ArtifactError, match="is no Arrow file"):
        ItemTable(Modality.TEXT, SideLayout(tmp_path / "text"), tmp_path)
