"""Which items may be hits, and which page of them: checked against limits and index."""

import asyncio
from collections.abc import Mapping

from pydantic import JsonValue

from model.core.filters import Filter
from model.core.types import Way
from service.checks import check_limit
from service.dispatcher import Dispatcher
from service.engine import SearchEngine
from service.errors import DeadlineError
from service.limits import Limits
from service.noticing import of_filter
from service.queries import Search
from service.schemas import SearchFields


def check_choice(
    engine: SearchEngine, direction: Way, search: SearchFields, limits: Limits
) -> None:
    """Refuse a page, a filter, a score or a distance that this index or its limits do not allow.

    Raises:
        InvalidRequestError: a limit is passed; it is named with the value.
        FilterRejectedError: a condition of the filter breaks a rule.
        UncalibratedError: there is no bank to compare scores with.
    """
    depth, bits = search.offset + search.k, engine.artifact.manifest.heads.n_bits
    check_limit("offset + k", depth, limits.max_candidates, "limits.max_candidates")
    check_limit("collapse", search.collapse or 0, bits, "the bits of a hash code")
    asked = filter_of(search.filter)
    if asked is not None:
        terms = sum(len(condition.terms) for condition in asked.conditions)
        most, values = limits.max_filter_conditions, limits.max_filter_values
        check_limit("filter conditions", terms, most, "limits.max_filter_conditions")
        check_limit("filter values", asked.size, values, "limits.max_filter_values")
    if search.min_score is not None:
        engine.cascade.require_calibration(direction)


def filter_of(asked: Mapping[str, JsonValue] | None) -> Filter | None:
    """The filter that a request's object says, None where it asks for nothing.

    Raises:
        FilterRejectedError: a condition breaks a rule.
    """
    return Filter.of(asked) if asked else None


async def prepare(
    dispatcher: Dispatcher, engine: SearchEngine, search: Search, limits: Limits
) -> list[str]:
    """Look a filter up beside the device's thread, for a new one may take seconds.

    What comes back is what the answer should say of it. Where there is none, and not every item
    is to be ranked, there is nothing to do.

    Raises:
        DeadlineError: the search's time was over before.
        InvalidRequestError: an exact search of more items than the limit allows.
    """
    cascade, direction, asked = engine.cascade, search.direction, search.options.wanted
    if asked is None and not search.options.exact:
        return []
    try:
        async with asyncio.timeout_at(search.deadline):
            if cascade.knows(direction, asked):
                selection = cascade.selection(direction, asked)
            else:
                selection = await dispatcher.decode(cascade.selection, direction, asked)
            if asked is None or len(selection):
                notices = []
            else:
                notices = await dispatcher.decode(of_filter, engine, search, selection)
    except TimeoutError as error:
        raise DeadlineError("the filter was not looked up within the search's time") from error
    if search.options.exact:
        most = limits.max_exact
        check_limit("items of an exact search", len(selection), most, "limits.max_exact")
    return notices
