"""Which records, and how many captions of each, a part of the work takes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.core.types import RowArray
from model.data.records import Collection

BANK_SIZE = 16_384  # most images, and most captions, of a bank whose size nobody chose


@dataclass(frozen=True)
class Selection:
    """Records by ascending row, whether each one's image counts, and its first captions."""

    rows: RowArray  # (N,)
    with_image: NDArray[np.bool_]  # (N,)
    n_captions: RowArray  # (N,)

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def part(self, start: int, stop: int) -> "Selection":
        """Some of the records."""
        cut = slice(start, stop)
        return Selection(self.rows[cut], self.with_image[cut], self.n_captions[cut])

    def drop(self, rows: RowArray) -> "Selection":
        """All but these records."""
        stays = ~np.isin(self.rows, rows)
        return Selection(self.rows[stays], self.with_image[stays], self.n_captions[stays])


def whole(collection: Collection) -> Selection:
    """Every record with all it has."""
    n_records = len(collection.records)
    with_image = np.zeros(n_records, dtype=np.bool_)
    with_image[collection.image_rows] = True
    n_captions = np.bincount(collection.caption_record, minlength=n_records).astype(np.int64)
    return Selection(np.arange(n_records, dtype=np.int64), with_image, n_captions)


def sample_bank(items: Selection, size: int, seed: int) -> Selection:
    """At most `size` images and `size` captions, those of an item kept together.

    Items are drawn by seed; each of the first `size` with an image gives it. Captions are dealt
    one an item and round, over those items first, then over the others.
    """
    order = np.random.default_rng(seed).permutation(len(items))
    pictured = order[items.with_image[order]][:size]
    others = order[~np.isin(order, pictured)]
    counts = np.zeros(len(items), dtype=np.int64)
    left = size
    for group in (pictured, others):
        counts[group] = deal(items.n_captions[group], left)
        left -= int(counts[group].sum())
    with_image = np.zeros(len(items), dtype=np.bool_)
    with_image[pictured] = True
    taken = with_image | (counts > 0)
    return Selection(items.rows[taken], with_image[taken], counts[taken])


def deal(available: RowArray, size: int) -> RowArray:
    """How many of its captions (N,) each item gives when `size` are dealt round by round."""
    given = np.zeros_like(available)
    while size > 0 and (givers := np.flatnonzero(available > given)).size:
        givers = givers[:size]
        given[givers] += 1
        size -= len(givers)
    return given
