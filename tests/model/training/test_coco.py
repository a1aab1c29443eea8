import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from model.core.errors import DataFormatError, InputError
from model.core.types import CandidateBudget, Direction, Modality
from model.core.vectors import l2_normalised
from model.data.open import open_collection
from model.data.records import Collection, Layout, Record
from model.heads.fitting import fit_heads
from model.heads.heads import HeadsConfig
from model.rerankers.weights import StageTwo
from model.training.coco import CocoIds, Retrieved, coco_scores, ids_of, read_ids
from model.training.embedded import Embedded
from model.training.evaluation import Measured, measure_split
from model.training.pairs import Pairs

N_IMAGES, CAPTIONS = 12, (5, 6, 4)  # captions of the images, in turns


@dataclass
class StandIn:
    """What the package does with ranked ids, for pairs that the test names."""

    also_true: Mapping[int, set[int]] = field(default_factory=dict)
    asked: list[tuple[Retrieved, Retrieved]] = field(default_factory=list)
    options: dict[str, object] = field(default_factory=dict)

    def compute_all_metrics(
        self, i2t: Retrieved, t2i: Retrieved, /, **options: object
    ) -> dict[str, dict[str, float]]:
        self.asked.append((i2t, t2i))
        self.options = options
        hits = {image: rows[0] in self.also_true[image] for image, rows in i2t.items()}
        return {"eccv_r1": {"i2t": float(np.mean(list(hits.values()))), "t2i": 0.25}}


@pytest.fixture(scope="module")
def split() -> Embedded:
    rng = np.random.default_rng(0)
    images = l2_normalised(rng.standard_normal((N_IMAGES, 16)).astype(np.float32))
    owners = np.repeat(np.arange(N_IMAGES), np.resize(CAPTIONS, N_IMAGES))
    texts = images[owners] + 0.5 * rng.standard_normal((len(owners), 16))
    embeddings = {Modality.IMAGE: images, Modality.TEXT: l2_normalised(texts.astype(np.float32))}
    return Embedded(embeddings, owners)


@pytest.fixture(scope="module")
def measured(split: Embedded) -> Measured:
    config = HeadsConfig(embedding_dim=16, n_bits=16, n_subspaces=4, n_centroids=8)
    heads = fit_heads(config, split.embeddings, 0)
    budget = CandidateBudget(keep_hash=0.3, keep_pq=0.2, at_least=1)
    return measure_split(split, heads, StageTwo(), budget, None)


@pytest.fixture
def ids(split: Embedded) -> CocoIds:
    rng = np.random.default_rng(1)
    texts = len(split.image_of_text)
    return CocoIds(rng.permutation(900)[:N_IMAGES] + 100, rng.permutation(900)[:texts] + 5000)


def test_every_ranking_is_handed_over_as_ranked_ids_of_every_query(
    measured: Measured, ids: CocoIds
) -> None:
    everything = {int(image): set(ids.texts.tolist()) for image in ids.images}
    metrics = StandIn(everything)
    scores = coco_scores(measured, ids, metrics)
    assert list(scores) == ["base", "reference", "transductive", "cascade"]
    assert {(one["eccv_r1"].i2t, one["eccv_r1"].t2i) for one in scores.values()} == {(100.0, 25.0)}
    assert metrics.options["verbose"] is False
    for i2t, t2i in metrics.asked:
        assert set(i2t) == set(ids.images.tolist())
        assert set(t2i) == set(ids.texts.tolist())
        # All captions of this small gallery: what Stage I drops follows by cosine.
        assert all(sorted(rows) == sorted(ids.texts.tolist()) for rows in i2t.values())
        assert all(sorted(rows) == sorted(ids.images.tolist()) for rows in t2i.values())


def test_the_order_is_that_of_the_ranking(measured: Measured, ids: CocoIds) -> None:
    metrics = StandIn({int(image): set() for image in ids.images})
    coco_scores(measured, ids, metrics)
    split = measured.split.embeddings
    cosines = split[Modality.IMAGE] @ split[Modality.TEXT].T
    base, _, transductive = (i2t for i2t, _ in metrics.asked)
    for image, coco_id in enumerate(ids.images.tolist()):
        assert base[coco_id] == ids.texts[np.argsort(-cosines[image])].tolist()
        listed = measured.lists[measured.served][Direction.IMAGE_TO_TEXT][image]
        assert transductive[coco_id][: len(listed)] == ids.texts[listed].tolist()


def test_ids_that_the_package_misses_are_named(measured: Measured, ids: CocoIds) -> None:
    missing = {int(image): set[int]() for image in ids.images[1:]}
    with pytest.raises(InputError, match=rf"all 5,000 test images .* id {ids.images[0]} is not"):
        coco_scores(measured, ids, StandIn(missing))


def test_ids_follow_their_items_into_another_order() -> None:
    ids = CocoIds(np.array([10, 11, 12]), np.array([5, 6]))
    moved = ids.in_order(np.array([2, 0, 1]), np.array([1, 0]))
    assert moved.images.tolist() == [11, 12, 10]
    assert moved.texts.tolist() == [6, 5]


def test_a_karpathy_split_of_coco_brings_its_ids(tmp_path: Path) -> None:
    entries = []
    for cocoid, sentids in ((70, (3, 1)), (50, (9,)), (60, (4, 8, 2))):
        (tmp_path / "val2014").mkdir(exist_ok=True)
        (tmp_path / f"val2014/{cocoid}.jpg").write_bytes(b"not decoded here")
        sentences = [{"raw": f"caption {i}", "sentid": i} for i in sentids]
        about = {"filename": f"{cocoid}.jpg", "filepath": "val2014", "split": "test"}
        entries.append({**about, "cocoid": cocoid, "sentids": sentids, "sentences": sentences})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    found = ids_of(Pairs.of(open_collection(tmp_path, "test")))
    assert found is not None
    assert found.images.tolist() == [70, 50, 60]
    assert found.texts.tolist() == [3, 1, 9, 4, 8, 2]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"cocoid": 7},
        {"sentids": [1, 2]},
        {"cocoid": 7, "sentids": [1]},
        {"cocoid": "7", "sentids": [1, 2]},
        {"cocoid": True, "sentids": [1, 2]},
        {"cocoid": 7, "sentids": [1, None]},
    ],
)
def test_records_without_an_id_for_each_item_bring_none(metadata: dict[str, object]) -> None:
    assert ids_of(_pairs(metadata)) is None


def test_a_file_of_ids_gives_a_line_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text("7 31\n7 12\n")
    found = read_ids(path, _pairs({}))
    assert (found.images.tolist(), found.texts.tolist()) == ([7], [31, 12])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7 31\n", r"ids.txt needs a line for each of 2 captions, got 1"),
        ("7 31\n7 x\n", r"ids.txt line 2 needs an image id and a caption id, got '7 x'"),
        ("7 31\n7\n", r"ids.txt line 2 needs an image id and a caption id, got '7'"),
        ("7 31\n8 12\n", r"ids.txt line 2 needs the image id .* own image, 7, got 8"),
    ],
)
def test_a_file_of_ids_that_does_not_fit_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "ids.txt"
    path.write_text(text)
    with pytest.raises(DataFormatError, match=message):
        read_ids(path, _pairs({}))


def _pairs(metadata: Mapping[str, object]) -> Pairs:
    """One image with two captions."""
    record = Record("a", None, ("one", "two"), metadata)  # type: ignore[arg-type]
    regions = np.zeros((1, 2, 3), np.float32)
    return Pairs.of(Collection("c", Layout.PRECOMP, [record], regions=regions))
