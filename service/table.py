"""Hits as text: aligned columns, as wide as a terminal or as long as they are."""

import textwrap
import unicodedata
from collections.abc import Callable, Sequence

from service.client import Explanation, Hit, SearchAnswer, WhyNot

GAP = "  "
INDENT = " " * 6
CUT = "…"
LEAST_WIDTH = 40
HEAD = ("rank", "score", "id", "found")


def table(answer: SearchAnswer, picture_of: Callable[[Hit], str | None], width: int | None) -> str:
    """A line for each hit, its explanation below, within `width` columns where there are 40."""
    notices = [f"note: {plain(one)}" for one in answer.notices or ()]
    after = [*notices, *(_fate(one) for one in answer.why_not or ())]
    if not answer.hits:
        return "\n".join(["no hits", *after]) + "\n"
    rows = [_cells(hit, picture_of) for hit in answer.hits]
    widths = [max(map(columns, column)) for column in zip(HEAD, *rows, strict=True)]
    room = None if width is None else max(width, LEAST_WIDTH)
    lines = [_line(HEAD, widths, room)]
    for hit, row in zip(answer.hits, rows, strict=True):
        lines.append(_line(row, widths, room))
        if hit.explanation is not None:
            lines.append(_explained(hit.explanation, room))
    return "\n".join([*lines, *after]) + "\n"


def _fate(told: WhyNot) -> str:
    """An item that was asked about: its fate, and where it stood."""
    values = told.model_dump(exclude_none=True, exclude={"id", "fate"})
    stood = "".join(f", {name} {_short(value)}" for name, value in values.items())
    return f"{plain(told.id)}: {told.fate.value}{stood}"


def _cells(hit: Hit, picture_of: Callable[[Hit], str | None]) -> tuple[str, ...]:
    found = hit.caption or picture_of(hit) or ""
    return str(hit.rank), f"{hit.score:.4f}", plain(hit.id), plain(found)


def _line(cells: Sequence[str], widths: Sequence[int], room: int | None) -> str:
    """Numbers to the right, words to the left; ids and what was found share what room is left."""
    rank, score, item_id, found = cells
    start = f"{rank:>{widths[0]}}{GAP}{score:>{widths[1]}}{GAP}"
    if room is None:
        return (start + _padded(item_id, widths[2]) + GAP + found).rstrip()
    left = room - len(start) - len(GAP)
    id_width = min(widths[2], left // 2)
    ids = _padded(cut(item_id, id_width), id_width)
    return (start + ids + GAP + cut(found, left - id_width)).rstrip()


def _explained(shown: Explanation, room: int | None) -> str:
    values = shown.model_dump(exclude_none=True)
    words = [f"{name} {_short(value)}" for name, value in values.items()]
    if room is None:
        return INDENT + ", ".join(words)
    # Only between the figures may a line end, not inside one.
    glued = ", ".join(word.replace(" ", "\0") for word in words)
    lines = textwrap.wrap(
        glued, room, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def _short(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def plain(text: str) -> str:
    """The text in one line, without anything that could steer a terminal."""
    one_line = " ".join(text.split())
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in one_line
    )


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(map(_columns_of, text))


def _columns_of(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def cut(text: str, width: int) -> str:
    """The text, or as much of it as fits with a sign that there is more."""
    if columns(text) <= width:
        return text
    kept, used = "", columns(CUT)
    for letter in text:
        used += _columns_of(letter)
        if used > width:
            break
        kept += letter
    return kept + CUT
