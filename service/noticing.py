"""What an answer says beside its hits: which part of a search means nothing to this index."""

from collections.abc import Sequence
from difflib import get_close_matches

from model.artifact.matching import ItemMatcher
from model.core.brief import MOST, shortened
from model.core.filters import Condition, Kind
from model.search.selection import Selection
from service.engine import SearchEngine
from service.queries import Search, TextQuery

LISTED = 8  # fields that a notice names where none is alike
NEAR = 3  # fields that it names where some are
ALIKE = 0.6  # how much of two names has to agree


def of_texts(engine: SearchEngine, search: Search) -> list[str]:
    """A notice for each text of the search of which the encoder knows no word."""
    texts = dict.fromkeys(query.text for query in search.queries if isinstance(query, TextQuery))
    return [
        f"the encoder knows none of the words in “{shortened(text)}”"
        for text in texts
        if not engine.encoder.knows(text)
    ]


def of_filter(engine: SearchEngine, search: Search, selection: Selection) -> list[str]:
    """A notice for each field of the search's filter in which no item has such a value.

    One such field leaves nothing to be found, so that a selection of items needs no look at it.
    """
    asked = search.options.wanted
    matcher = engine.cascade.sides[search.direction.candidate].matcher
    if asked is None or len(selection) or not isinstance(matcher, ItemMatcher):
        return []
    told = (_of_condition(engine, one, matcher.kinds(one.field)) for one in asked.conditions)
    return [one for one in told if one is not None]


def _of_condition(engine: SearchEngine, asked: Condition, held: frozenset[Kind]) -> str | None:
    if Kind.NOTHING in asked.kinds or held & asked.kinds:
        return None
    if not held:
        return _of_field(asked.field, engine.metadata_fields)
    wanted = " or ".join(f"a {kind}" for kind in sorted(asked.kinds))
    there = " and ".join(f"{kind}s" for kind in sorted(held))
    return f"no item has {wanted} in the metadata field {_quoted([asked.field])}, it holds {there}"


def _of_field(field: str, known: Sequence[str]) -> str:
    told = f"no item has a value in the metadata field {_quoted([field])}"
    others = [name for name in known if name != field]
    if near := _near(field, others):
        return f"{told}, did you mean {_quoted(near)}?"
    if not others:
        return f"{told}, nor in any other"
    more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
    return f"{told}, there are {_quoted(others[:LISTED])}{more}"


def _near(field: str, known: Sequence[str]) -> list[str]:
    """Fields whose names are like this one, or that lie inside it or around it."""
    if len(field) > MOST:
        return []
    nested = [n for n in known if n.startswith(f"{field}.") or field.startswith(f"{n}.")]
    lowered = {name.lower(): name for name in known}
    alike = [lowered[one] for one in get_close_matches(field.lower(), lowered, NEAR, ALIKE)]
    return list(dict.fromkeys([*nested, *alike]))[:NEAR]


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{shortened(name)}`" for name in names)
