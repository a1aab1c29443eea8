"""The flags of `meet-search`, and the call that they ask for."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from model.core.command import Parser
from model.core.errors import InputError
from model.core.types import Modality, RerankMode
from model.data.files import IMAGE_SUFFIXES
from service.client import Call, SearchAnswer, SearchParams
from service.client.calls import search_image, search_text, similar
from service.client.clients import TIMEOUT_SECONDS

# As `field>=value`; the longer signs first.
SIGNS = {">=": "gte", "<=": "lte", ">": "gt", "<": "lt", "=": "eq"}
CONDITION = re.compile(rf"([^<>=]+)({'|'.join(SIGNS)})(.*)", re.DOTALL)
EQUAL, ONE_OF = "eq", "in"


def parser() -> argparse.ArgumentParser:
    """Every flag of the command."""
    made = Parser(
        prog="meet-search",
        description="Search by a text or an image file, on a server or in an index directory.",
    )
    made.add_argument("query", nargs="?", help="a text, or the path of an image file")
    _add_kinds(made)
    where = made.add_mutually_exclusive_group()
    where.add_argument("--url", help="a server (else MEET_URL, else http://127.0.0.1:8000)")
    where.add_argument("--index", type=Path, metavar="DIR", help="an index, without a server")
    _add_options(made)
    made.add_argument("--json", action="store_true", help="the whole answer for machines")
    made.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds (30)")
    return made


def _add_kinds(made: argparse.ArgumentParser) -> None:
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_true", help="the query is a text, whatever it names")
    kind.add_argument("--image", action="store_true", help="the query is the path of an image file")
    kind.add_argument("--similar", metavar="ID", help="more like an item of the gallery, no query")
    made.add_argument(
        "--to", choices=[one.value for one in Modality], help="of --similar: the kind"
    )


def _add_options(made: argparse.ArgumentParser) -> None:
    made.add_argument("--k", type=int, help="hits wanted (10)")
    made.add_argument("--offset", type=int, help="hits to leave out before the first one (0)")
    made.add_argument("--rerank", choices=[mode.value for mode in RerankMode], help="Stage II")
    made.add_argument("--exact", action="store_true", help="every item is re-ranked: no Stage I")
    made.add_argument("--plus", action="append", metavar="TEXT", help="moves the query there")
    made.add_argument("--minus", action="append", metavar="TEXT", help="moves the query away")
    made.add_argument(
        "--filter",
        action="append",
        metavar="CONDITION",
        help="field=value, or >=, <=, >, < between them; = given again is a choice",
    )
    made.add_argument("--min-score", type=float, metavar="0..1", help="the least calibrated score")
    made.add_argument("--collapse", type=int, metavar="BITS", help="near-duplicates become one hit")
    made.add_argument("--why-not", action="append", metavar="ID", help="what became of this item")
    made.add_argument("--explain", action="store_true", help="what each stage made of each hit")


def call_of(told: argparse.Namespace) -> Call[SearchAnswer]:
    """The call that the flags ask for.

    Raises:
        InputError: no query, or two, or a condition that cannot be read.
    """
    params = _params(told)
    if told.similar is not None:
        if told.query is not None:
            raise InputError(f"--similar takes no query beside its id, got {told.query!r}")
        return similar(told.similar, to=told.to, **params)
    if told.query is None or told.to is not None:
        raise InputError("--to needs --similar" if told.to else "a query is needed, or --similar")
    if told.image or (not told.text and _names_image(told.query)):
        return search_image(told.query, **params)
    return search_text(told.query, **params)


def _params(told: argparse.Namespace) -> SearchParams:
    params: dict[str, Any] = {
        "k": told.k,
        "offset": told.offset,
        "explain": told.explain,
        "rerank": told.rerank,
        "exact": told.exact or None,
        "plus": told.plus,
        "minus": told.minus,
        "filter": None if told.filter is None else conditions(told.filter),
        "min_score": told.min_score,
        "collapse": told.collapse,
        "why_not": told.why_not,
    }
    return cast("SearchParams", {n: value for n, value in params.items() if value is not None})


def conditions(told: Sequence[str]) -> dict[str, Any]:
    """The filter of conditions such as `year>=2020`; all of them hold.

    A value that reads as JSON's number, truth value, null or quoted text is that, any other is a
    text as it stands. Several `=` of one field are a choice between their values.

    Raises:
        InputError: a condition without a sign.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in told:
        read = CONDITION.fullmatch(one)
        if read is None:
            raise InputError(f"a filter looks like field=value or field>=value, got {one!r}")
        name, sign, value = read.groups()
        _add(found.setdefault(name.strip(), {}), SIGNS[sign], _value(value.strip()))
    return found


def _add(condition: dict[str, Any], sign: str, value: object) -> None:
    if sign == EQUAL and EQUAL in condition:
        condition[ONE_OF] = [condition.pop(EQUAL), value]
    elif sign == EQUAL and ONE_OF in condition:
        condition[ONE_OF].append(value)
    else:
        condition[sign] = value


def _value(text: str) -> object:
    try:
        read = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    return text if isinstance(read, list | dict) else read


def _names_image(query: str) -> bool:
    """Whether a query is an image file that is there; a text may only look like one."""
    path = Path(query)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    try:
        found = path.is_file()
    except (OSError, ValueError):  # longer than a path, or a zero in it
        found = False
    if not found:
        sys.stderr.write(f"meet-search: there is no file {query!r}, searching for these words\n")
    return found
