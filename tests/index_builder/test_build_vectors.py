from pathlib import Path

import numpy as np
import pytest

from index_builder.options import ListsChoice
from model.ann.faiss_door import HammingIndex
from model.artifact.manifest import ListsKind
from model.cascade import CandidateSide, Cascade, SearchOptions
from model.core.errors import DataFormatError, UnsupportedInputError
from model.core.types import Direction, Modality
from model.core.vectors import l2_normalised
from model.heads.fitting import fit_heads
from model.rerankers.second_stage import SecondStage
from model.rerankers.weights import StageTwo
from model.reverse_lists.compute import reverse_lists
from tests.index_builder.conftest import CAPTIONS_EACH, DIM, Built, items_of

Z = 16


class Table:
    """Reverse lists in memory."""

    def __init__(self, lists: np.ndarray[tuple[int, int], np.dtype[np.float16]]) -> None:
        self._lists = lists

    def lists(
        self, rows: np.ndarray[tuple[int], np.dtype[np.int64]]
    ) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
        return self._lists[rows]


def halves(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    return l2_normalised(np.load(path)).astype(np.float16)


@pytest.mark.parametrize("lists", list(ListsChoice))
def test_a_built_index_answers_as_a_cascade_over_arrays_in_memory(
    vectors: Path, build: Built, lists: ListsChoice
) -> None:
    artifact = build(vectors, lists=lists, z=Z, seed=5)
    given = {m: halves(vectors / f"{m}.npy") for m in Modality}
    heads = fit_heads(artifact.heads.config, given, seed=5)
    sides = {}
    for modality, embeddings in given.items():
        codes = heads.encode(modality, embeddings)
        table = Table(reverse_lists(embeddings, given[modality.other], Z))
        hamming = HammingIndex.from_codes(codes.hash_codes)
        sides[modality] = CandidateSide(hamming, codes.pq_codes, embeddings, table)
    memory, disk = Cascade(heads, sides, SecondStage(StageTwo())), Cascade.from_artifact(artifact)
    for direction in Direction:
        queries = given[direction.query][:9].astype(np.float32)
        options = SearchOptions(k=20)
        for ours, theirs in zip(
            memory.search(direction, queries, options),
            disk.search(direction, queries, options),
            strict=True,
        ):
            assert ours.rows.tolist() == theirs.rows.tolist()
            np.testing.assert_array_equal(ours.scores, theirs.scores)
            assert ours.rerank == theirs.rerank == "relationship"


def test_items_know_their_partners(vectors: Path, build: Built) -> None:
    artifact = build(vectors)
    assert artifact.manifest.counts == {Modality.IMAGE: 60, Modality.TEXT: 60 * CAPTIONS_EACH}
    caption = artifact.item(Modality.TEXT, 7)
    image = artifact.item(Modality.IMAGE, 3)
    assert (caption.caption, caption.partner) == ("caption 7", 3)
    assert list(image.caption_rows) == [6, 7]
    assert caption.id == f"{image.id}#1"
    assert artifact.find(image.id) == (Modality.IMAGE, 3)


def test_the_bank_keeps_pairs_together(vectors: Path, build: Built) -> None:
    artifact = build(vectors, bank_size=10)
    assert artifact.manifest.bank.sizes == {Modality.IMAGE: 10, Modality.TEXT: 10}
    given = {m: halves(vectors / f"{m}.npy").tolist() for m in Modality}
    images, texts = (artifact.bank(modality) for modality in Modality)
    assert images is not None
    assert texts is not None
    assert artifact.bank_partner is not None
    for text, partner in zip(texts, artifact.bank_partner.tolist(), strict=True):
        item = given[Modality.TEXT].index(text.tolist()) // CAPTIONS_EACH
        assert given[Modality.IMAGE][item] == images[partner].tolist()


@pytest.mark.parametrize("only", list(Modality))
def test_a_gallery_of_one_side_has_no_lists(vectors: Path, build: Built, only: Modality) -> None:
    (vectors / f"{only.other}.npy").unlink()
    if only is Modality.IMAGE:
        (vectors / "captions.txt").unlink()
    artifact = build(vectors)
    assert list(artifact.sides) == [only]
    assert artifact.manifest.lists is ListsKind.NONE
    with pytest.raises(UnsupportedInputError):
        artifact.side(only.other)
    direction = next(d for d in Direction if d.candidate is only)
    query = l2_normalised(np.ones((1, DIM), dtype=np.float32))
    found = Cascade.from_artifact(artifact).search(direction, query, SearchOptions(k=3))
    assert found[0].rerank == "consistency_only"


def test_a_given_bank_serves_a_gallery_of_images(
    vectors: Path, build: Built, tmp_path: Path
) -> None:
    gallery = tmp_path / "images"
    gallery.mkdir()
    np.save(gallery / "image.npy", np.load(vectors / "image.npy")[:20])
    artifact = build(gallery, bank=str(vectors), bank_size=30, z=Z)
    bank = artifact.bank(Modality.TEXT)
    lists = artifact.side(Modality.IMAGE).reverse_lists
    assert artifact.manifest.bank.source == str(vectors)
    assert bank is not None
    assert lists is not None
    embeddings = artifact.side(Modality.IMAGE).embeddings
    np.testing.assert_array_equal(lists, reverse_lists(embeddings, bank, Z))
    # The bank's texts ask, so quality is measured even without captions of the gallery.
    assert artifact.manifest.quality["queries"] == {"t2i": 30}
    assert "base" not in artifact.manifest.quality


def test_the_disk_budget_decides_between_stored_and_lazy(vectors: Path, build: Built) -> None:
    needed = (60 + 120) * Z * 2
    kinds = [
        build(vectors, z=Z, lists_budget=budget).manifest.lists for budget in (needed, needed - 1)
    ]
    assert kinds == [ListsKind.STORED, ListsKind.LAZY]


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        ("image.npy", 17, np.nan, r"image\.npy: row 17 has NaN"),
        ("text.npy", 31, np.inf, r"text\.npy: row 31 has NaN"),
        ("image.npy", 0, 0.0, r"image\.npy: row 0 is all zeros"),
    ],
)
def test_values_that_point_nowhere_are_named(
    vectors: Path, build: Built, name: str, row: int, value: float, message: str
) -> None:
    array = np.load(vectors / name)
    array[row] = value
    np.save(vectors / name, array)
    with pytest.raises(DataFormatError, match=message):
        build(vectors, shard_size=7)


def test_sides_of_different_width_are_refused(vectors: Path, build: Built) -> None:
    np.save(vectors / "text.npy", np.load(vectors / "text.npy")[:, :-1])
    with pytest.raises(DataFormatError, match=f"text embeddings of D={DIM - 1}.* D={DIM}"):
        build(vectors)


def test_an_encoder_of_another_width_is_refused(tmp_path: Path, build: Built, clip: Path) -> None:
    np.save(tmp_path / "image.npy", np.ones((3, DIM + 8), dtype=np.float32))
    with pytest.raises(DataFormatError, match=f"D={DIM + 8}, encoder 'tiny-clip' gives D={DIM}"):
        build(tmp_path, clip)


def test_given_vectors_and_encoded_captions_meet(vectors: Path, build: Built, clip: Path) -> None:
    (vectors / "text.npy").unlink()
    artifact = build(vectors, clip)
    assert artifact.manifest.counts == {Modality.IMAGE: 60, Modality.TEXT: 120}
    assert artifact.manifest.encoder.name == "tiny-clip"


def test_shards_do_not_change_what_is_built(vectors: Path, build: Built) -> None:
    one, many = build(vectors, shard_size=60), build(vectors, shard_size=7)
    for modality in Modality:
        for part in ("embeddings", "pq_codes", "reverse_lists"):
            ours, theirs = (getattr(a.side(modality), part) for a in (one, many))
            np.testing.assert_array_equal(ours, theirs)
        assert items_of(one, modality) == items_of(many, modality)
