"""The items that fulfil a filter, ready to be searched: kept for as long as there is room."""

import threading
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from model.ann.faiss_door import HammingIndex
from model.core.errors import FilterRejectedError
from model.core.filters import Filter
from model.core.lru import ByteLru
from model.core.types import ByteArray, Modality, RankArray, RowArray

SELECTION_BYTES = 64 << 20
# The largest share of a gallery whose codes are copied, 12 bytes a match: a first search of a
# million takes as long with a bitmap then, and every later one a fraction.
SELECTIVE = 0.4


@runtime_checkable
class Matcher(Protocol):
    """Whatever knows which items of a side fulfil a filter."""

    def mask(self, asked: Filter) -> NDArray[np.bool_]:
        """Which items (N,) do."""
        ...


@dataclass(frozen=True)
class Selection:
    """Matching items of a side: rows with codes of their own, or bits over all rows."""

    count: int
    whole: HammingIndex
    rows: NDArray[np.int32] | None = None
    index: HammingIndex | None = None
    bits: ByteArray | None = None

    @classmethod
    def of(cls, mask: NDArray[np.bool_], whole: HammingIndex) -> "Selection":
        """The items that a mask (N,) tells, in the form that is cheaper to search."""
        count = int(np.count_nonzero(mask))
        if count > SELECTIVE * len(mask):
            return cls(count, whole, bits=np.packbits(mask, bitorder="little"))
        rows = np.flatnonzero(mask).astype(np.int32)
        return cls(count, whole, rows=rows, index=whole.subset(rows))

    @classmethod
    def all(cls, whole: HammingIndex) -> "Selection":
        """Every item."""
        return cls(len(whole), whole)

    def __len__(self) -> int:
        """How many match."""
        return self.count

    @property
    def nbytes(self) -> int:
        """Bytes that it takes beside the index."""
        if self.rows is not None:
            return self.rows.nbytes + len(self.rows) * self.whole.n_bits // 8
        return 0 if self.bits is None else self.bits.nbytes

    def search(self, codes: ByteArray, k: int) -> tuple[RankArray, RowArray]:
        """Distances and rows (Q, min(k, matches)) of the nearest that match, by (distance, row)."""
        k = min(k, self.count)
        if self.rows is not None and self.index is not None:
            distances, places = self.index.search(codes, k)
            return distances, self.rows[places].astype(np.int64)
        if self.bits is not None and k:
            return self.whole.search_within(codes, k, self.bits)
        return self.whole.search(codes, k)

    def all_rows(self) -> RowArray:
        """Every row that matches, ascending."""
        if self.rows is not None:
            return self.rows.astype(np.int64)
        if self.bits is None:
            return np.arange(len(self.whole))
        bits = np.unpackbits(self.bits, bitorder="little", count=len(self.whole))
        return np.flatnonzero(bits)


class Selections:
    """What filters select of each side, those used last; safe to share between threads."""

    def __init__(self, max_bytes: int = SELECTION_BYTES) -> None:
        """Keep selections of at most so many bytes."""
        self._kept: ByteLru[tuple[Modality, Filter], Selection] = ByteLru(max_bytes)
        self._making = threading.Lock()

    def knows(self, modality: Modality, asked: Filter) -> bool:
        """Whether a filter's selection is at hand."""
        return self._kept.get((modality, asked)) is not None

    def of(
        self,
        modality: Modality,
        asked: Filter | None,
        whole: HammingIndex,
        matcher: Matcher | None,
    ) -> Selection:
        """What a filter selects; it is made by one thread at a time.

        Raises:
            FilterRejectedError: the side's items have no metadata at hand.
        """
        if not asked:
            return Selection.all(whole)
        if (found := self._kept.get((modality, asked))) is not None:
            return found
        if matcher is None:
            raise FilterRejectedError(
                f"a filter needs the metadata of {modality} items, this search was opened without"
            )
        with self._making:
            if (found := self._kept.get((modality, asked))) is None:
                found = Selection.of(matcher.mask(asked), whole)
                self._kept.put((modality, asked), found)
        return found
