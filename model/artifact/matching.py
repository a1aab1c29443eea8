"""Which items of a side fulfil a filter, from columns that are read when first asked for."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.artifact.columns import Column
from model.artifact.items import NO_ROW, ItemTable
from model.artifact.metadata import read_column
from model.artifact.reader import Artifact
from model.core.filters import ID_FIELD, Condition, Filter, Kind
from model.core.lru import ByteLru
from model.core.types import Modality

COLUMN_BYTES = 128 << 20
Columns: TypeAlias = ByteLru[tuple[Modality, str], Column]
Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class ItemMatcher:
    """Filters over the items of one side; safe to share between threads.

    A caption has its image's metadata where it has an image, as hits show it.
    """

    items: ItemTable
    images: ItemTable | None  # of captions
    columns: Columns

    def __len__(self) -> int:
        """N."""
        return len(self.items)

    def mask(self, asked: Filter) -> Mask:
        """Which items (N,) fulfil every condition."""
        whole = np.ones(len(self), np.bool_)
        for condition in asked.conditions:
            whole &= self._mask(condition)
        return whole

    def kinds(self, field: str) -> frozenset[Kind]:
        """The kinds of values that items have in a field; none where no item has one."""
        if field == ID_FIELD:
            return frozenset([Kind.TEXT])
        return frozenset().union(*(self._column(one, field).kinds for one in self._told))

    @property
    def _told(self) -> list[ItemTable]:
        """The tables that hold metadata of these items: their images', and their own."""
        if self.images is None:
            return [self.items]
        _, count = self.items.partners()
        return [self.images] if count.all() else [self.images, self.items]

    def _mask(self, condition: Condition) -> Mask:
        if condition.field == ID_FIELD:
            return self._mask_of_ids(condition)
        if self.images is None:
            return self._own(self.items, condition)
        first, count = self.items.partners()
        mask = self._own(self.images, condition)[first]
        if not count.all():
            mask = np.where(first == NO_ROW, self._own(self.items, condition), mask)
        return mask

    def _mask_of_ids(self, condition: Condition) -> Mask:
        mask = np.ones(len(self), np.bool_)
        for term in condition.terms:
            texts = [one.content for one in term.values if isinstance(one.content, str)]
            found = [row for text in texts if (row := self.items.row(text)) is not None]
            named = np.zeros(len(self), np.bool_)
            named[found] = True
            mask &= named
        return mask

    def _own(self, items: ItemTable, condition: Condition) -> Mask:
        """Which items of a table fulfil a condition by their own metadata."""
        return self._column(items, condition.field).mask(condition, len(items))

    def _column(self, items: ItemTable, field: str) -> Column:
        key = (items.modality, field)
        column = self.columns.get(key)
        if column is None:
            column = read_column(items.metadata, field)
            self.columns.put(key, column)
        return column


def matchers_of(artifact: Artifact) -> dict[Modality, ItemMatcher]:
    """A matcher for every side of an opened artifact; they share their columns."""
    columns: Columns = ByteLru(COLUMN_BYTES)
    images = artifact.sides.get(Modality.IMAGE)
    return {
        modality: ItemMatcher(
            side.items,
            images.items if images is not None and modality is Modality.TEXT else None,
            columns,
        )
        for modality, side in artifact.sides.items()
    }
