"""Where a reverse list may be found, cheapest first: the stored table, memory, Redis.

Layers only save time: every one of them gives the same lists, and what none of them holds is
computed.
"""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model.core.types import HalfArray, RowArray
from model.reverse_lists.compute import BankScorer

EMPTY = -1


class Found(NamedTuple):
    """A layer's answer: which of the asked rows it has, and the lists of those, in order."""

    mask: NDArray[np.bool_]  # (C,)
    lists: HalfArray  # (mask.sum(), z)


@runtime_checkable
class ReverseListSource(Protocol):
    """Anything that has the reverse list of every row of one side."""

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists (C, z) fp16 of rows (C,), each row at most once."""
        ...


@runtime_checkable
class ListLayer(Protocol):
    """A place that may have some rows' lists and can be given more."""

    @property
    def name(self) -> str:
        """The layer's name in the counters."""
        ...

    def get(self, rows: RowArray) -> Found:
        """The lists that this layer has of rows (C,)."""
        ...

    def put(self, rows: RowArray, lists: HalfArray) -> None:
        """Keep lists (C, z) of rows (C,) if there is room."""
        ...


class MemoryLayer:
    """The lists used last, in one array bounded by bytes; no Python object per item."""

    name = "memory"

    def __init__(self, n_items: int, z: int, max_bytes: int) -> None:
        """Take room for as many lists (z,) of a side of n_items as fit into max_bytes."""
        slots = max(0, min(n_items, max_bytes // (2 * z)))
        self._lists = np.empty((slots, z), dtype=np.float16)
        self._row_of_slot = np.full(slots, EMPTY, dtype=np.int64)
        self._used = np.zeros(slots, dtype=np.int64)  # tick of the last use
        self._slot_of_row = np.full(n_items, EMPTY, dtype=np.int32)
        self._filled = 0
        self._tick = 0
        self._lock = threading.Lock()

    def get(self, rows: RowArray) -> Found:
        """The lists in memory; each counts as used now."""
        with self._lock:
            slots = self._slot_of_row[rows]
            mask = slots != EMPTY
            self._touch(slots[mask])
            return Found(mask, self._lists[slots[mask]])

    def put(self, rows: RowArray, lists: HalfArray) -> None:
        """Keep the lists in place of those used longest ago."""
        with self._lock:
            rows, lists = rows[: len(self._used)], lists[: len(self._used)]
            held = self._slot_of_row[rows]
            new = held == EMPTY
            self._touch(held[~new])  # another thread may have been first
            rows, lists = rows[new], lists[new]
            slots = self._slots_for(len(rows))
            old = self._row_of_slot[slots]
            self._slot_of_row[old[old != EMPTY]] = EMPTY
            self._lists[slots], self._row_of_slot[slots] = lists, rows
            self._slot_of_row[rows] = slots
            self._touch(slots)

    def _slots_for(self, count: int) -> RowArray:
        """Slots (count,) never used yet, else those used longest ago."""
        start, self._filled = self._filled, min(len(self._used), self._filled + count)
        if start + count <= len(self._used):
            return np.arange(start, start + count)
        return np.argpartition(self._used, count - 1)[:count]

    def _touch(self, slots: NDArray[np.int32] | RowArray) -> None:
        self._tick += 1
        self._used[slots] = self._tick


class StoredLists:
    """The artifact's table (N, z), memory-mapped: a layer that has everything."""

    name = "stored"

    def __init__(self, table: HalfArray) -> None:
        self._table = np.asarray(table)  # indexing a memmap object costs more

    def get(self, rows: RowArray) -> Found:
        """Every row's list."""
        return Found(np.ones(len(rows), dtype=np.bool_), self.lists(rows))

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists (C, z) of rows (C,)."""
        return self._table.take(rows, axis=0)

    def put(self, rows: RowArray, lists: HalfArray) -> None:
        """Nothing: the table is whole and immutable."""


class ComputedLists:
    """Lists computed from the embeddings and the bank when asked for."""

    name = "computed"

    def __init__(
        self,
        candidates: NDArray[np.floating],
        bank: NDArray[np.floating],
        z: int,
        device: str = "cpu",
    ) -> None:
        """Take candidates (N, D) and the bank (B, D) of the other modality, both mapped."""
        self._candidates, self._bank, self._z, self._device = candidates, bank, z, device
        self._scorer: BankScorer | None = None

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists (C, z) of rows (C,)."""
        scorer = self._scorer or BankScorer(self._bank, self._z, self._device)
        if self._device != "cpu":
            # In host memory the float32 bank lives only as long as the call: converting it
            # costs a hundredth of the product, keeping it would cost 2 kB an entry.
            self._scorer = scorer
        return scorer.lists(self._candidates[rows])


class LayeredLists:
    """Layers asked in order, then computation; what was missing is handed back to them.

    Whoever makes one gives the layers in the order of `benchmarks/list_layers.md`: the stored table
    alone where there is one, else memory, then Redis.
    """

    def __init__(self, layers: Sequence[ListLayer], computed: ComputedLists, z: int) -> None:
        """Ask `layers` in the order given; `computed` has the last word."""
        self.lookups: Counter[str] = Counter()
        self._layers, self._computed, self._z = tuple(layers), computed, z
        self._lock = threading.Lock()

    @property
    def in_table(self) -> bool:
        """Whether every list lies in a mapped table."""
        return any(isinstance(layer, StoredLists) for layer in self._layers)

    @property
    def quiet(self) -> ReverseListSource:
        """The table, or the computation: lists that are neither counted nor kept anywhere."""
        tables = (layer for layer in self._layers if isinstance(layer, StoredLists))
        return next(tables, self._computed)

    def share(self, layer: ListLayer) -> None:
        """Ask this layer too, last before computing, in place of one of its name."""
        others = tuple(one for one in self._layers if one.name != layer.name)
        self._layers = (*others, layer)

    def lists(self, rows: RowArray) -> HalfArray:
        """Lists (C, z) of rows (C,), each row at most once."""
        if isinstance(table := next(iter(self._layers), None), StoredLists):
            self._count(table.name, len(rows))
            return table.lists(rows)  # has every row
        lists = np.empty((len(rows), self._z), dtype=np.float16)
        missing = np.arange(len(rows))
        for depth, layer in enumerate(self._layers):
            if not len(missing):
                return lists
            found = layer.get(rows[missing])
            lists[missing[found.mask]] = found.lists
            self._give(depth, rows[missing[found.mask]], found.lists)
            self._count(layer.name, int(found.mask.sum()))
            missing = missing[~found.mask]
        if len(missing):
            lists[missing] = self._compute(rows[missing])
        return lists

    def _compute(self, rows: RowArray) -> HalfArray:
        lists = self._computed.lists(rows)
        self._count(self._computed.name, len(rows))
        self._give(len(self._layers), rows, lists)
        return lists

    def _give(self, depth: int, rows: RowArray, lists: HalfArray) -> None:
        """Hand lists to the layers above the one that had them."""
        if len(rows):
            for layer in self._layers[:depth]:
                layer.put(rows, lists)

    def _count(self, name: str, lookups: int) -> None:
        with self._lock:
            self.lookups[name] += lookups
