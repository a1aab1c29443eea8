from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model.core.types import HalfArray, RowArray
from model.reverse_lists.compute import reverse_lists
from model.reverse_lists.layers import (
    ComputedLists,
    Found,
    LayeredLists,
    ListLayer,
    MemoryLayer,
    StoredLists,
)

Z = 4
N_ITEMS = 30


def rows_of(*rows: int) -> RowArray:
    return np.array(rows, dtype=np.int64)


def lists_of(rows: RowArray) -> HalfArray:
    """A list per row that names it."""
    return np.repeat(rows[:, None], Z, axis=1).astype(np.float16)


def held(layer: ListLayer, count: int = N_ITEMS) -> set[int]:
    return set(np.flatnonzero(layer.get(np.arange(count)).mask).tolist())


def computed() -> tuple[ComputedLists, HalfArray]:
    rng = np.random.default_rng(0)
    candidates, bank = (rng.standard_normal((n, 8)).astype(np.float16) for n in (N_ITEMS, 20))
    return ComputedLists(candidates, bank, Z), reverse_lists(candidates, bank, Z)


class Recorder:
    """A layer that has some rows and remembers what it was asked and given."""

    def __init__(self, name: str, table: HalfArray, has: set[int]) -> None:
        self.name, self.table, self.has = name, table, has
        self.asked: list[list[int]] = []
        self.given: dict[int, HalfArray] = {}

    def get(self, rows: RowArray) -> Found:
        self.asked.append(rows.tolist())
        mask = np.isin(rows, sorted(self.has))
        return Found(mask, self.table[rows[mask]])

    def put(self, rows: RowArray, lists: HalfArray) -> None:
        self.given.update(zip(rows.tolist(), lists, strict=True))


def test_memory_forgets_what_was_used_longest_ago() -> None:
    memory = MemoryLayer(N_ITEMS, Z, max_bytes=3 * 2 * Z)
    for row in (1, 2, 3):
        memory.put(rows_of(row), lists_of(rows_of(row)))
    memory.get(rows_of(1))
    memory.put(rows_of(9), lists_of(rows_of(9)))
    assert held(memory) == {1, 3, 9}


def test_memory_gives_back_what_it_was_given_in_the_order_asked() -> None:
    memory = MemoryLayer(N_ITEMS, Z, max_bytes=1 << 20)
    memory.put(rows_of(5, 2, 7), lists_of(rows_of(5, 2, 7)))
    found = memory.get(rows_of(7, 0, 5))
    assert found.mask.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.lists, lists_of(rows_of(7, 5)))


def test_memory_without_room_keeps_nothing_and_says_so() -> None:
    memory = MemoryLayer(N_ITEMS, Z, max_bytes=2 * Z - 1)
    memory.put(rows_of(1, 2), lists_of(rows_of(1, 2)))
    assert held(memory) == set()


@given(st.lists(st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=9), max_size=12))
def test_memory_stays_within_its_bytes_and_never_mixes_rows_up(batches: list[list[int]]) -> None:
    memory = MemoryLayer(N_ITEMS, Z, max_bytes=5 * 2 * Z)
    for batch in batches:
        rows = np.array(batch, dtype=np.int64)
        memory.put(rows, lists_of(rows))
        assert set(batch[:5]) <= held(memory)
        found = memory.get(np.arange(N_ITEMS))
        assert found.mask.sum() <= 5
        np.testing.assert_array_equal(found.lists, lists_of(np.flatnonzero(found.mask)))


def test_layers_are_asked_in_order_for_what_is_still_missing() -> None:
    source, table = computed()
    first, second = Recorder("first", table, {1, 2}), Recorder("second", table, {2, 3})
    lists = LayeredLists([first, second], source, Z)
    rows = rows_of(4, 3, 2, 1)
    np.testing.assert_array_equal(lists.lists(rows), table[rows])
    assert first.asked == [[4, 3, 2, 1]]
    assert second.asked == [[4, 3]]
    assert lists.lookups == {"first": 2, "second": 1, "computed": 1}


def test_what_a_layer_lacked_is_handed_back_to_it_alone() -> None:
    source, table = computed()
    first, second = Recorder("first", table, {1}), Recorder("second", table, {3})
    LayeredLists([first, second], source, Z).lists(rows_of(1, 3, 4))
    assert set(first.given) == {3, 4}
    assert set(second.given) == {4}
    np.testing.assert_array_equal(first.given[4], table[4])
    np.testing.assert_array_equal(first.given[3], table[3])


def test_a_whole_first_layer_leaves_the_others_alone() -> None:
    source, table = computed()
    other = Recorder("other", table, set())
    lists = LayeredLists([StoredLists(table), other], source, Z)
    np.testing.assert_array_equal(lists.lists(rows_of(7, 0)), table[[7, 0]])
    assert (other.asked, other.given) == ([], {})
    assert lists.lookups == {"stored": 2}


def test_the_second_look_is_answered_from_memory() -> None:
    source, table = computed()
    lists = LayeredLists([MemoryLayer(N_ITEMS, Z, 1 << 20)], source, Z)
    for _ in range(2):
        np.testing.assert_array_equal(lists.lists(rows_of(3, 8)), table[[3, 8]])
    assert lists.lookups == {"memory": 2, "computed": 2}


def test_threads_sharing_a_small_memory_all_get_the_right_lists() -> None:
    source, table = computed()
    lists = LayeredLists([MemoryLayer(N_ITEMS, Z, 6 * 2 * Z)], source, Z)

    def ask(seed: int) -> bool:
        rows = np.random.default_rng(seed).permutation(N_ITEMS)[:5]
        return np.array_equal(lists.lists(rows), table[rows])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
    assert sum(lists.lookups.values()) == 200 * 5
