"""Checked requests read as queries: each entry of several, and the texts that move a query."""

from collections.abc import Sequence
from typing import TypeAlias

from service.checks import checked_text
from service.limits import Limits
from service.queries import Move
from service.refusals import Refused
from service.schemas import (
    ImageSearch,
    ImageUpload,
    Shift,
    SimilarSearch,
    TextSearch,
)

Asked: TypeAlias = TextSearch | ImageSearch | ImageUpload | SimilarSearch
Several: TypeAlias = TextSearch | ImageSearch


def entries(asked: Several) -> list[Asked | Refused]:
    """The queries of one call, each as a search of its own with the fields that all share.

    What an entry says of `plus`, `minus` and their weights goes before what the call says.
    """
    plain = "query" if isinstance(asked, TextSearch) else "id"
    found: list[Asked | Refused] = []
    for entry in asked.queries or ():
        if isinstance(entry, Refused):
            found.append(entry)
            continue
        told = {plain: entry} if isinstance(entry, str) else entry
        own = (
            told if isinstance(told, dict) else {n: getattr(told, n) for n in told.model_fields_set}
        )
        found.append(asked.model_copy(update={"queries": None, **own}))
    return found


def move_of(asked: Shift, limits: Limits) -> Move | None:
    """The texts that move a query, checked; None where it stays.

    Raises:
        TextRejectedError: one of them is empty or above a limit.
    """
    plus, minus = (
        [checked_text(field, one, limits) for one in _texts(told)]
        for field, told in (("plus", asked.plus), ("minus", asked.minus))
    )
    if not plus and not minus:
        return None
    return Move(tuple(plus), tuple(minus), (asked.plus_weight, asked.minus_weight))


def _texts(told: str | Sequence[str] | None) -> Sequence[str]:
    return [told] if isinstance(told, str) else told or ()
