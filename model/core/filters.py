"""Metadata filters as frozen values: which items a search may find.

Values are compared within their kind alone: 1 equals 1.0 but neither "1" nor true, and texts
compare by code points, so that ISO dates compare as dates. A list in an item's metadata fulfils
a condition if one of its elements does, whole; null is a field that is null or not there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple, TypeAlias

from model.core.brief import brief, shortened
from model.core.errors import FilterRejectedError

Scalar: TypeAlias = bool | int | float | str | None
ID_FIELD = "id"  # the item's own id, whatever its metadata says


class Operator(StrEnum):
    """How a field's value has to stand to the values of a condition."""

    EQ = "eq"
    IN = "in"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"

    @property
    def is_range(self) -> bool:
        """Whether it asks for an order."""
        return self not in (Operator.EQ, Operator.IN)


class Kind(StrEnum):
    """What a value is; values of two kinds never match."""

    NOTHING = "null"
    TRUTH = "truth value"
    NUMBER = "number"
    TEXT = "text"


ORDERED = (Kind.NUMBER, Kind.TEXT)


class Value(NamedTuple):
    """A scalar with its kind, for in Python True equals 1."""

    kind: Kind
    content: Scalar


class Term(NamedTuple):
    """One operator with its values: one value, or several for `in`."""

    operator: Operator
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Condition:
    """What one field has to fulfil: every term."""

    field: str
    terms: tuple[Term, ...]

    @cached_property
    def kinds(self) -> frozenset[Kind]:
        """What it names values of; null: a field that is not there may be what is looked for."""
        return frozenset(value.kind for term in self.terms for value in term.values)


@dataclass(frozen=True)
class Filter:
    """Conditions that an item has to fulfil, all of them, by field."""

    conditions: tuple[Condition, ...]

    @classmethod
    def of(cls, asked: Mapping[str, object]) -> "Filter":
        """The filter of an object: field → value, or field → object of operators.

        Raises:
            FilterRejectedError: a condition that breaks a rule.
        """
        return cls(tuple(_condition(field, asked[field]) for field in sorted(asked)))

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.conditions)

    @cached_property
    def size(self) -> int:
        """Values named in all of its terms."""
        return sum(len(term.values) for one in self.conditions for term in one.terms)


def _condition(field: str, asked: object) -> Condition:
    place = f"filter `{shortened(field)}`"
    if not isinstance(asked, Mapping):
        asked = {Operator.EQ.value: asked}
    if not asked:
        known = ", ".join(f"`{one}`" for one in Operator)
        raise FilterRejectedError(f"{place} needs at least one of {known}, got none")
    condition = Condition(field, tuple(_term(field, name, asked[name]) for name in sorted(asked)))
    bounds = [one.values[0].kind for one in condition.terms if one.operator.is_range]
    if len(set(bounds)) > 1:
        got = " and ".join(f"a {kind}" for kind in bounds)
        raise FilterRejectedError(f"{place} needs bounds of one kind, got {got}")
    if field == ID_FIELD and bounds:
        raise FilterRejectedError(f"{place} takes `eq` and `in`, got a range")
    return condition


def _term(field: str, name: str, asked: object) -> Term:
    if name not in tuple(Operator):
        known = ", ".join(Operator)
        raise FilterRejectedError(f"filter `{shortened(field)}` takes {known}, got {brief(name)}")
    operator, place = Operator(name), f"filter `{shortened(field)}.{name}`"
    if operator is not Operator.IN:
        value = _value(place, asked)
        if operator.is_range and value.kind not in ORDERED:
            raise FilterRejectedError(f"{place} needs a number or a text, got {brief(asked)}")
        return Term(operator, (value,))
    if not isinstance(asked, list | tuple) or not asked:
        raise FilterRejectedError(f"{place} needs a list of at least one value, got {brief(asked)}")
    return Term(operator, tuple(dict.fromkeys(_value(place, one) for one in asked)))


def _value(place: str, asked: object) -> Value:
    match asked:
        case None:
            return Value(Kind.NOTHING, None)
        case bool():
            return Value(Kind.TRUTH, asked)
        case str():
            return Value(Kind.TEXT, asked)
        case int():
            return Value(Kind.NUMBER, asked)
        case float() if math.isfinite(asked):
            return Value(Kind.NUMBER, asked)
        case _:
            raise FilterRejectedError(
                f"{place} needs a text, a finite number, a truth value or null, got {brief(asked)}"
            )


def fulfils(condition: Condition, found: object) -> bool:
    """Whether a plain JSON value fulfils a condition: the slow twin of columns.

    A list does if one of its elements does; an object and an empty list fulfil nothing.
    """
    if isinstance(found, list):
        return any(_one_fulfils(condition, one) for one in found if not is_null(one))
    return _one_fulfils(condition, None if is_null(found) else found)


def _one_fulfils(condition: Condition, found: object) -> bool:
    try:
        value = _value("", found)
    except FilterRejectedError:
        return False
    return all(_holds(term, value) for term in condition.terms)


def is_null(found: object) -> bool:
    """Whether it is null, or a number that is not finite, which answers show as null."""
    return found is None or (isinstance(found, float) and not math.isfinite(found))


_ORDER: Mapping[Operator, Callable[..., bool]] = {
    Operator.GT: lambda found, bound: found > bound,
    Operator.GTE: lambda found, bound: found >= bound,
    Operator.LT: lambda found, bound: found < bound,
    Operator.LTE: lambda found, bound: found <= bound,
}


def _holds(term: Term, value: Value) -> bool:
    if not term.operator.is_range:
        return value in term.values
    bound = term.values[0]
    return value.kind is bound.kind and _ORDER[term.operator](value.content, bound.content)
