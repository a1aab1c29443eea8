"""ECCV Caption and CxC: COCO's test split with the matches that its own pairs leave out.

A caption of COCO fits more images than its own. CxC (Parekh et al., EACL 2021) and ECCV Caption
(Chun et al., ECCV 2022) have had such pairs judged by people; the package `eccv_caption` holds
both and counts. It reads ranked lists of COCO's own ids. This is the only door to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from model.core.errors import DataFormatError, InputError, MissingExtraError
from model.core.types import Direction, RowArray
from model.data.files import read_lines
from model.training.embedded import Embedded
from model.training.evaluation import CASCADE, Measured, Percent
from model.training.pairs import Pairs
from model.training.rankings import Lists, RankingName, leading

# The longest list of true matches in ECCV Caption has 48, and R-precision reads as many rows.
DEPTH = 64
CUTS = (1, 5, 10)
# The package gives R-precision only beside mAP@R.
SCORES = ("cxc_recalls", "eccv_r1", "eccv_map_at_r", "eccv_rprecision")

Retrieved = dict[int, list[int]]
CocoScores = dict[str, Percent]


@runtime_checkable
class CocoMetrics(Protocol):
    """What is asked of `eccv_caption.Metrics`."""

    def compute_all_metrics(
        self, i2t: Retrieved, t2i: Retrieved, /, **options: object
    ) -> Mapping[str, Mapping[str, float]]:
        """Shares by score and direction (`i2t`, `t2i`), from ranked ids of every query id."""


@dataclass(frozen=True)
class CocoIds:
    """COCO's ids of a split's images (N,) and captions (T,)."""

    images: RowArray
    texts: RowArray

    def in_order(self, image_rows: RowArray, text_rows: RowArray) -> "CocoIds":
        """The ids where image i has moved to row image_rows[i], and captions likewise."""
        return CocoIds(self.images[np.argsort(image_rows)], self.texts[np.argsort(text_rows)])


def open_metrics() -> CocoMetrics:
    """The package's metrics, with the pairs that it brings along.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        from eccv_caption import Metrics
    except ImportError as error:
        raise MissingExtraError("ECCV Caption and CxC", "eccv_caption", "coco") from error
    metrics: CocoMetrics = Metrics()
    return metrics


def ids_of(pairs: Pairs) -> CocoIds | None:
    """The ids that the records' metadata hold as `cocoid` and `sentids`, if all of them do."""
    records = pairs.collection.records
    about = [records[row].metadata for row in pairs.image_rows]
    images = [one.get("cocoid") for one in about]
    lists = [one.get("sentids") for one in about]
    places = zip(pairs.image_of_text.tolist(), pairs.text_positions.tolist(), strict=True)
    texts = [_at(lists[image], position) for image, position in places]
    if not all(_is_id(one) for one in (*images, *texts)):
        return None
    return CocoIds(np.array(images, np.int64), np.array(texts, np.int64))


def read_ids(path: Path, pairs: Pairs) -> CocoIds:
    """The ids of a text file with a line a caption, in order: image id, blank, caption id.

    Raises:
        DataFormatError: lines that are no two numbers, or do not fit the split.
    """
    lines = read_lines(path)
    if len(lines) != len(pairs.captions):
        rule = f"{path} needs a line for each of {len(pairs.captions)} captions"
        raise DataFormatError(f"{rule}, got {len(lines)}")
    numbers = np.array([_two_ids(line, f"{path} line {i}") for i, line in enumerate(lines, 1)])
    images, texts = numbers.T
    _, firsts = np.unique(pairs.image_of_text, return_index=True)
    wrong = np.flatnonzero(images != images[firsts][pairs.image_of_text])
    if len(wrong):
        raise DataFormatError(
            f"{path} line {wrong[0] + 1} needs the image id of the caption's own image, "
            f"{images[firsts][pairs.image_of_text[wrong[0]]]}, got {images[wrong[0]]}"
        )
    return CocoIds(images[firsts], texts)


def coco_scores(measured: Measured, ids: CocoIds, metrics: CocoMetrics) -> dict[str, CocoScores]:
    """The scores of every ranking, in percent; the package counts over all its queries.

    Raises:
        InputError: ids that the package asks for are not in this split.
    """
    nothing: Lists = {
        direction: np.empty((len(measured.split.one_way(direction).queries), 0), np.int64)
        for direction in Direction
    }
    lists = {RankingName.BASE: nothing, **measured.lists}
    scores = {
        name.value: _scores(measured.split, listed, ids, metrics) for name, listed in lists.items()
    }
    return {**scores, CASCADE: scores[measured.served]}


def _scores(split: Embedded, lists: Lists, ids: CocoIds, metrics: CocoMetrics) -> CocoScores:
    rows = {d: leading(split.one_way(d), listed, DEPTH) for d, listed in lists.items()}
    i2t, t2i = rows[Direction.IMAGE_TO_TEXT], rows[Direction.TEXT_TO_IMAGE]
    try:
        found = metrics.compute_all_metrics(
            dict(zip(ids.images.tolist(), ids.texts[i2t].tolist(), strict=True)),
            dict(zip(ids.texts.tolist(), ids.images[t2i].tolist(), strict=True)),
            target_metrics=SCORES,
            Ks=CUTS,
            verbose=False,
        )
    except KeyError as error:
        raise InputError(
            "ECCV Caption and CxC need all 5,000 test images of COCO and their captions, "
            f"id {error} is not among those given"
        ) from error
    return {
        name: Percent(i2t=100.0 * float(one["i2t"]), t2i=100.0 * float(one["t2i"]))
        for name, one in found.items()
    }


def _at(ids: object, position: int) -> object:
    return ids[position] if isinstance(ids, list) and position < len(ids) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _two_ids(line: str, what: str) -> tuple[int, int]:
    parts = line.split()
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise DataFormatError(f"{what} needs an image id and a caption id, got {line!r}")
    return int(parts[0]), int(parts[1])
