"""One metadata field of all items as arrays, one set of arrays for each kind of value.

A field of a million items takes 4 bytes a value for its row, and beside that 8 bytes a number, or
4 a text and every distinct text once; values that come once an item need no rows.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from model.core.filters import Condition, Kind, Operator, Scalar, Term

Mask: TypeAlias = NDArray[np.bool_]
Rows: TypeAlias = NDArray[np.int32]
Number: TypeAlias = int | float


@dataclass(frozen=True)
class Entries:
    """Values (E,) of one kind and their rows (E,), ascending; rows None: value i is row i's."""

    rows: Rows | None
    values: NDArray[Any]

    @classmethod
    def of(cls, rows: Rows, values: NDArray[Any], n_items: int) -> "Entries":
        """Without rows where every item has one value."""
        whole = len(rows) == n_items and bool((np.diff(rows) == 1).all())
        return cls(None if whole else rows, values)

    @property
    def nbytes(self) -> int:
        """Bytes of both arrays."""
        rows = 0 if self.rows is None else self.rows.nbytes
        return rows + self.values.nbytes

    def mark(self, mask: Mask, held: Mask) -> None:
        """Set the rows whose value holds (E,)."""
        if self.rows is None:
            mask |= held
        else:
            mask[self.rows[held]] = True


@dataclass(frozen=True)
class Column:
    """A field of N items."""

    absent: Rows  # items whose value is null or not there
    truths: Entries  # bool
    integers: Entries  # int64
    reals: Entries  # float64
    texts: Entries  # int32, places in the dictionary
    dictionary: pa.LargeStringArray  # distinct texts, ascending

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        parts = (self.absent, self.truths, self.integers, self.reals, self.texts)
        return sum(part.nbytes for part in parts) + int(self.dictionary.nbytes)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of the values that a condition could compare; none where no item has one."""
        held = (
            (Kind.TRUTH, self.truths),
            (Kind.NUMBER, self.integers),
            (Kind.NUMBER, self.reals),
            (Kind.TEXT, self.texts),
        )
        return frozenset(kind for kind, entries in held if len(entries.values))

    def mask(self, condition: Condition, n_items: int) -> Mask:
        """Which items (N,) fulfil the condition."""
        mask = np.zeros(n_items, np.bool_)
        for entries, held in (
            (self.truths, _held_truths),
            (self.integers, _held_integers),
            (self.reals, _held_reals),
            (self.texts, self._held_texts),
        ):
            if len(entries.values):
                holds = [held(entries.values, term) for term in condition.terms]
                entries.mark(mask, np.logical_and.reduce(holds))
        mask[self.absent] = all(_takes_nothing(term) for term in condition.terms)
        return mask

    def _held_texts(self, codes: NDArray[np.int32], term: Term) -> Mask:
        wanted = [str(one) for one in _of_kind(term, Kind.TEXT)]
        if term.operator.is_range:
            start, stop = self._span(term.operator, wanted)
            return (codes >= start) & (codes < stop)
        places = [self._first(text) for text in wanted]
        known = [
            place
            for place, text in zip(places, wanted, strict=True)
            if place < len(self.dictionary) and self.dictionary[place].as_py() == text
        ]
        return _is_in(codes, np.array(known, np.int32))

    def _span(self, operator: Operator, wanted: Sequence[str]) -> tuple[int, int]:
        """The places of the texts within a bound; a bound of another kind has none."""
        if not wanted:
            return 0, 0
        [bound], last = wanted, len(self.dictionary)
        match operator:
            case Operator.GT:
                return self._last(bound), last
            case Operator.GTE:
                return self._first(bound), last
            case Operator.LT:
                return 0, self._first(bound)
            case _:
                return 0, self._last(bound)

    def _first(self, text: str) -> int:
        return bisect_left(self.dictionary, text, key=_plain)

    def _last(self, text: str) -> int:
        return bisect_right(self.dictionary, text, key=_plain)


def _plain(text: Any) -> str:  # noqa: ANN401 - Arrow's scalars have no types
    return str(text.as_py())


def _of_kind(term: Term, kind: Kind) -> list[Scalar]:
    return [value.content for value in term.values if value.kind is kind]


def _takes_nothing(term: Term) -> bool:
    return not term.operator.is_range and any(v.kind is Kind.NOTHING for v in term.values)


def _is_in(values: NDArray[Any], wanted: NDArray[Any]) -> Mask:
    if len(wanted) == 1:
        return np.asarray(values == wanted[0])
    return np.isin(values, wanted)


def _held_truths(values: Mask, term: Term) -> Mask:
    wanted = [] if term.operator.is_range else [bool(one) for one in _of_kind(term, Kind.TRUTH)]
    return _is_in(values, np.array(wanted, np.bool_))


def _numbers(term: Term) -> list[Number]:
    return [one for one in _of_kind(term, Kind.NUMBER) if isinstance(one, int | float)]


def _held_integers(values: NDArray[np.int64], term: Term) -> Mask:
    """Compared as whole numbers, for floats would confuse those above 2**53."""
    wanted = _numbers(term)
    if term.operator.is_range:
        return _compared(values, term.operator, [(math.floor(b), math.ceil(b)) for b in wanted])
    span = np.iinfo(np.int64)
    whole = [int(one) for one in wanted if one == math.floor(one)]
    inside = [one for one in whole if span.min <= one <= span.max]
    return _is_in(values, np.array(inside, np.int64))


def _held_reals(values: NDArray[np.float64], term: Term) -> Mask:
    wanted = _numbers(term)
    around = [(_nearest_below(one), -_nearest_below(-one)) for one in wanted]
    if term.operator.is_range:
        return _compared(values, term.operator, around)
    return _is_in(values, np.array([low for low, high in around if low == high], np.float64))


def _compared(
    values: NDArray[Any], operator: Operator, around: Sequence[tuple[Number, Number]]
) -> Mask:
    """Values in order with a bound that lies between its two neighbours among their kind."""
    if not around:
        return np.zeros(len(values), np.bool_)
    [(below, above)] = around
    found: Mapping[Operator, Callable[[], Mask]] = {
        Operator.GT: lambda: values > below,
        Operator.GTE: lambda: values >= above,
        Operator.LT: lambda: values < above,
        Operator.LTE: lambda: values <= below,
    }
    return np.asarray(found[operator]())


def _nearest_below(number: Number) -> float:
    """The highest float that is not above a number; whole numbers may lie between floats."""
    try:
        rounded = float(number)
    except OverflowError:
        return math.nextafter(math.inf, 0) if number > 0 else -math.inf
    return rounded if rounded <= number else math.nextafter(rounded, -math.inf)


class ColumnWriter:
    """Gathers a column from the parts that chunks of items give."""

    def __init__(self) -> None:
        self._absent: list[Rows] = []
        self._rows: dict[str, list[Rows]] = {name: [] for name in STORES}
        self._values: dict[str, list[Any]] = {name: [] for name in STORES}

    def absent(self, rows: NDArray[np.integer]) -> None:
        """Note items without a value."""
        self._absent.append(rows.astype(np.int32))

    def append(self, store: str, rows: NDArray[np.integer], values: Any) -> None:  # noqa: ANN401
        """Note values of one of `STORES`, of items whose rows ascend."""
        if len(rows):
            self._rows[store].append(rows.astype(np.int32))
            self._values[store].append(values)

    def column(self, n_items: int) -> Column:
        """All that was noted."""
        codes, dictionary = _encoded(self._values["texts"])
        rows = {name: _joined(parts, np.dtype(np.int32)) for name, parts in self._rows.items()}
        values = {name: _joined(self._values[name], kind) for name, kind in STORES.items() if kind}
        entries = {
            name: Entries.of(rows[name], values.get(name, codes), n_items) for name in STORES
        }
        return Column(
            absent=_joined(self._absent, np.dtype(np.int32)), **entries, dictionary=dictionary
        )


STORES: Mapping[str, np.dtype[Any] | None] = {
    "truths": np.dtype(np.bool_),
    "integers": np.dtype(np.int64),
    "reals": np.dtype(np.float64),
    "texts": None,  # Arrow's own, until they are encoded
}


def _joined(parts: Sequence[NDArray[Any]], kind: np.dtype[Any]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *parts]).astype(kind, copy=False)


def _encoded(parts: Sequence[pa.Array]) -> tuple[NDArray[np.int32], pa.LargeStringArray]:
    """Places (E,) of texts in the ascending dictionary of them."""
    texts = pa.chunked_array([part.cast(pa.large_string()) for part in parts], pa.large_string())
    whole = texts.combine_chunks()
    whole = whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
    encoded = whole.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    place = np.empty(len(order), np.int32)
    place[np.asarray(order)] = np.arange(len(order), dtype=np.int32)
    return place[np.asarray(encoded.indices)], encoded.dictionary.take(order)
