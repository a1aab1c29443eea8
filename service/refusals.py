"""What breaks a rule of a union: an entry kept so that it fails alone, a field under one rule."""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import ErrorDetails, PydanticCustomError

# What the members of an entry's union are called where they do not fit.
OTHER_KINDS = {"str", "is-instance[Refused]"}


class Refused:
    """An entry that is no query: each rule that it breaks, as pydantic tells it."""

    def __init__(self, entries: Sequence[ErrorDetails]) -> None:
        self.entries = entries


def or_refused(entry: Any, check: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401 - pydantic's
    """The checked entry of a text or an object, or a `Refused` of what came instead."""
    try:
        return check(entry)
    except ValidationError as error:
        return Refused(_told(entry, error))


def one_rule(rule: str) -> Callable[[Any, ValidatorFunctionWrapHandler], Any]:
    """A check of a field that may be of several kinds: one rule, instead of one for each kind."""

    def check(value: Any, inner: ValidatorFunctionWrapHandler) -> Any:  # noqa: ANN401 - pydantic's
        try:
            return inner(value)
        except ValidationError:
            raise PydanticCustomError("union", "{rule}", {"rule": rule}) from None

    return check


def _told(entry: object, error: ValidationError) -> list[ErrorDetails]:
    """The rules of the kind that the entry is of; `loc` begins with the kind's name."""
    entries = error.errors(include_url=False)
    if not isinstance(entry, dict):
        return [{**entries[0], "loc": (), "msg": "Input should be a text or an object"}]
    broken = [one for one in entries if one["loc"][0] not in OTHER_KINDS]
    return [{**one, "loc": one["loc"][1:]} for one in broken]
