"""Values as messages show them: short enough to be read, whatever was sent."""

from reprlib import Repr

MOST = 80  # characters
GAP = "..."

_repr = Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = MOST
_repr.maxlist = _repr.maxtuple = _repr.maxdict = 4
_repr.maxlevel = 3


def brief(value: object) -> str:
    """The value as Python writes it, in at most 80 characters; only a part of it is looked at."""
    return shortened(_repr.repr(value))


def shortened(text: str) -> str:
    """The text in at most 80 characters: of a longer one the beginning and the end."""
    if len(text) <= MOST:
        return text
    kept = MOST - len(GAP)
    end = kept // 2
    return f"{text[: kept - end]}{GAP}{text[-end:]}"
