import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.artifact import metadata as reading
from model.artifact.columns import Column
from model.artifact.metadata import read_column, value_of
from model.core.errors import FilterRejectedError
from model.core.filters import Filter, Operator, fulfils

NUMBERS = st.integers(-4, 4) | st.sampled_from([0.5, -1.5, 2.0, 2**53, 2**53 + 1, -(2**63)])
TEXTS = st.sampled_from(["", "a", "b", "ä", "\U0001f600", "\uffff", "2024-01-31", "1"])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES: st.SearchStrategy[Any] = (
    SCALARS | st.lists(SCALARS, max_size=3) | st.just({}) | st.just(float("nan"))
)
ITEMS = st.lists(
    st.none()
    | st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES})
    | st.fixed_dictionaries({"n": st.fixed_dictionaries({}, optional={"a": VALUES})})
    | st.fixed_dictionaries({"n.a": VALUES, "n": st.fixed_dictionaries({"a": VALUES})}),
    max_size=12,
)
BOUNDS = st.sampled_from([one for one in Operator if one.is_range])


def conditions_of(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(BOUNDS.map(str), kind, min_size=1, max_size=2)


CONDITIONS = (
    SCALARS
    | st.fixed_dictionaries({"in": st.lists(SCALARS, min_size=1, max_size=3)})
    | conditions_of(NUMBERS)
    | conditions_of(TEXTS)
    | st.tuples(st.fixed_dictionaries({"eq": SCALARS}), conditions_of(NUMBERS)).map(
        lambda both: {**both[0], **both[1]}
    )
)


def column_of(items: list[Any], field: str, batch: int = 5) -> Column:
    texts = [None if one is None else json.dumps(one) for one in items]
    parts = [texts[i : i + batch] for i in range(0, len(texts), batch)]
    return read_column(pa.chunked_array(parts, pa.string()), field)


def matches(items: list[Any], field: str, condition: object) -> list[bool]:
    [one] = Filter.of({field: condition}).conditions
    mask: list[bool] = column_of(items, field).mask(one, len(items)).tolist()
    return mask


@settings(max_examples=300)
@given(items=ITEMS, field=st.sampled_from(["a", "b", "n.a", "n"]), condition=CONDITIONS)
@example(items=[{"a": 2**53}, {"a": 2.5}, {"a": 2**53 + 1}], field="a", condition=2**53 + 1)
@example(items=[{"a": 2.0**53}, {"a": 0.5}], field="a", condition={"lt": 2**53 + 1})
@example(items=[{"a": 0.5}], field="a", condition={"gt": -(10**400), "lt": 10**400})
def test_a_column_says_what_each_item_s_own_json_says(
    items: list[Any], field: str, condition: object
) -> None:
    [one] = Filter.of({field: condition}).conditions
    expected = [fulfils(one, value_of(item, field)) for item in items]
    assert matches(items, field, condition) == expected


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (1, [0, 1, 6]),
        (True, [2]),
        ("1", [3]),
        (None, [4, 5]),
        ({"in": [1, "1", None]}, [0, 1, 3, 4, 5, 6]),
        ({"gte": 1}, [0, 1, 6]),
        ({"gt": 1}, [6]),
        ({"gt": 1, "lt": 5}, []),
        ({"gte": "0"}, [3]),
    ],
)
def test_kinds_do_not_mix_and_one_element_has_to_fulfil_a_whole_condition(
    condition: object, rows: list[int]
) -> None:
    values = [1, 1.0, True, "1", None, float("inf"), [0, 1, 5], [], {"x": 1}]
    found = matches([{"a": value} for value in values], "a", condition)
    assert np.flatnonzero(found).tolist() == rows


def test_dates_compare_as_texts() -> None:
    days = [{"day": f"2024-{month:02}-15"} for month in range(1, 13)]
    found = matches(days, "day", {"gte": "2024-03-01", "lt": "2024-06"})
    assert np.flatnonzero(found).tolist() == [2, 3, 4]


def test_a_key_with_dots_goes_before_nested_objects() -> None:
    items = [{"a.b": 1, "a": {"b": 2}}, {"a": {"b": 1}}, {"a.b": None, "a": {"b": 1}}, {"a": 1}]
    assert matches(items, "a.b", 1) == [True, True, True, False]
    assert matches(items[1:2] * 3, "a.b", 1) == [True] * 3


def test_chunks_of_one_kind_never_reach_python_s_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CHUNK_ITEMS", 3)
    monkeypatch.delattr(reading, "_read_mixed")
    items = [{"a": row, "b": [str(row), "x"], "c": row / 2, "d": row > 3} for row in range(8)]
    items[2] = {}
    assert matches(items, "a", {"gte": 6}) == [False] * 6 + [True] * 2
    assert matches(items, "b", "x") == [True] * 2 + [False] + [True] * 5
    assert matches(items, "c", {"in": [0.5, 2]}) == [row in (1, 4) for row in range(8)]
    assert matches(items, "d", True) == [False] * 4 + [True] * 4
    assert matches(items, "e", None) == [True] * 8


def test_no_items_match_nothing() -> None:
    assert matches([], "a", None) == []


def test_a_column_takes_twelve_bytes_a_number() -> None:
    some = [{"a": row} if row % 2 else {} for row in range(1000)]
    assert column_of(some, "a", 1000).nbytes == 500 * 12 + 500 * 4
    assert column_of([{"a": 1}] * 1000, "a", 1000).nbytes == 8000


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"row": {"near": 3}}, "`row` takes eq, in, gt, gte, lt, lte, got 'near'"),
        ({"row": {}}, "`row` needs at least one of `eq`, .*, got none"),
        ({"row": {"in": []}}, r"`row.in` needs a list of at least one value, got \[\]"),
        ({"row": {"in": 3}}, "`row.in` needs a list of at least one value, got 3"),
        ({"row": {"in": [[1]]}}, r"`row.in` needs a text, .* got \[1\]"),
        ({"row": {"eq": {"a": 1}}}, "`row.eq` needs a text, .* got {'a': 1}"),
        ({"row": [1, 2]}, r"`row.eq` needs a text, .* got \[1, 2\]"),
        ({"row": float("nan")}, "`row.eq` needs a text, a finite number, .* got nan"),
        ({"row": {"gte": True}}, "`row.gte` needs a number or a text, got True"),
        ({"row": {"lt": None}}, "`row.lt` needs a number or a text, got None"),
        ({"row": {"gt": 1, "lt": "b"}}, "bounds of one kind, got a number and a text"),
        ({"id": {"gt": "a"}}, "`id` takes `eq` and `in`, got a range"),
    ],
)
def test_a_filter_that_breaks_a_rule_is_refused_with_rule_and_value(
    asked: dict[str, object], rule: str
) -> None:
    with pytest.raises(FilterRejectedError, match=rule):
        Filter.of(asked)


def test_filters_with_other_kinds_of_equal_values_are_not_the_same() -> None:
    assert Filter.of({"a": 1}) != Filter.of({"a": True})
    assert Filter.of({"a": 1, "b": 2}) == Filter.of({"b": {"eq": 2}, "a": 1.0})
    assert hash(Filter.of({"a": 1})) == hash(Filter.of({"a": 1.0}))
    assert not Filter.of({})
    assert Filter.of({"a": {"in": [1, 1, 2], "lt": 4}}).size == 3
