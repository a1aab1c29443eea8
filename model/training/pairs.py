"""Images with their captions, as training and evaluation take them from a collection."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model.core.errors import DataFormatError
from model.core.types import RowArray
from model.data.records import Collection
from model.data.selection import sample_bank, whole


@dataclass(frozen=True)
class Pairs:
    """N images and T captions; `image_rows` name the records that the images come from."""

    collection: Collection
    image_rows: RowArray  # (N,)
    captions: tuple[str, ...]  # (T,)
    image_of_text: RowArray  # (T,), positions in image_rows
    text_rows: RowArray  # (T,), positions among the collection's captions

    @classmethod
    def of(cls, collection: Collection) -> "Pairs":
        """Every record that has both an image and a caption.

        Raises:
            DataFormatError: no record has both.
        """
        owners = collection.caption_record
        rows = np.intersect1d(collection.image_rows, owners)
        if not len(rows):
            raise DataFormatError(
                f"{collection.name} needs records with an image and a caption, got none"
            )
        return cls._of_rows(collection, rows)

    @classmethod
    def _of_rows(cls, collection: Collection, rows: RowArray) -> "Pairs":
        owners = collection.caption_record
        text_rows = np.flatnonzero(np.isin(owners, rows))
        captions = tuple(collection.captions[row] for row in text_rows)
        return cls(collection, rows, captions, np.searchsorted(rows, owners[text_rows]), text_rows)

    @classmethod
    def sampled(
        cls, collection: Collection, size: int, seed: int, without: RowArray | None = None
    ) -> "Pairs":
        """A bank: at most `size` images and `size` captions, an item's kept together.

        A caption without its image there has -1 for it; records in `without` are left out.
        """
        items = whole(collection) if without is None else whole(collection).drop(without)
        bank = sample_bank(items, size, seed)
        images = bank.rows[bank.with_image]
        owners = collection.caption_record
        firsts = np.searchsorted(owners, bank.rows)
        text_rows = np.concatenate(
            [np.arange(a, a + n) for a, n in zip(firsts, bank.n_captions, strict=True)]
        ).astype(np.int64)
        captions = tuple(collection.captions[row] for row in text_rows)
        at = np.searchsorted(images, owners[text_rows])
        known = np.append(images, -1)[at] == owners[text_rows]
        return cls(collection, images, captions, np.where(known, at, -1), text_rows)

    @property
    def text_positions(self) -> RowArray:
        """The place (T,) of each caption among those of its record."""
        owners = self.collection.caption_record
        return self.text_rows - np.searchsorted(owners, owners[self.text_rows])

    def hold_out(self, share: float, seed: int) -> "tuple[Pairs, Pairs]":
        """The pairs without a seeded share of their images, and that share (at least one)."""
        order = np.random.default_rng(seed).permutation(len(self.image_rows))
        cut = min(max(1, round(share * len(order))), len(order) - 1)
        if cut < 1:
            raise DataFormatError(f"training needs two images or more, got {len(order)}")
        return self._without(order[:cut])

    def folds(self, count: int, seed: int) -> "list[tuple[Pairs, Pairs]]":
        """For each of `count` parts of the images, drawn by seed: the pairs without it, and it."""
        order = np.random.default_rng(seed).permutation(len(self.image_rows))
        return [self._without(held) for held in np.array_split(order, count)]

    def _without(self, held: RowArray) -> "tuple[Pairs, Pairs]":
        """The pairs of all other images, and those of the images at some positions."""
        mask = np.zeros(len(self.image_rows), dtype=np.bool_)
        mask[held] = True
        return (
            self._of_rows(self.collection, self.image_rows[~mask]),
            self._of_rows(self.collection, self.image_rows[mask]),
        )

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[RowArray]:
        """One epoch: every caption once, in rounds that hold every image at most once.

        What is left over of a round joins the next, so a batch meets an image twice at most.
        """
        yield from _cut(self._rounds(rng), size)

    def _rounds(self, rng: np.random.Generator) -> RowArray:
        shuffled = rng.permutation(len(self.captions))
        by_image = shuffled[np.argsort(self.image_of_text[shuffled], kind="stable")]
        counts = np.bincount(self.image_of_text, minlength=len(self.image_rows))
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        turn = np.arange(len(by_image)) - firsts  # each image's captions: 0, 1, 2, …
        return by_image[np.lexsort((rng.random(len(by_image)), turn))]


def _cut(rows: RowArray, size: int) -> list[RowArray]:
    """Batches of `size` rows or a few more, so that none is left over."""
    return np.array_split(rows, max(len(rows) // size, 1))
