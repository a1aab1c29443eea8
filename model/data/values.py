"""Values from outside: texts that can be stored, and metadata as plain JSON."""

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal

from pydantic import JsonValue

from model.core.errors import DataFormatError


def text_value(value: object, what: str) -> str:
    """The text without surrounding blanks.

    Raises:
        DataFormatError: not a text, an empty one, or one that UTF-8 cannot hold.
    """
    if not isinstance(value, str):
        raise DataFormatError(f"{what} needs to be a text, got {type(value).__name__}")
    text = value.strip()
    if not text:
        raise DataFormatError(f"{what} needs at least one character, got none")
    if text != _storable(text):
        raise DataFormatError(f"{what} needs to be valid Unicode, got half a surrogate pair")
    return text


def caption_values(value: object, what: str) -> tuple[str, ...]:
    """The captions of a list of texts, of one text, or of nothing."""
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    return tuple(text_value(one, f"{what}, caption {i}") for i, one in enumerate(values))


def json_value(value: object) -> JsonValue:
    """The value as JSON can say it; bytes, NaN and what has no JSON form become null."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return _storable(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case Mapping():
            return {str(key): json_value(one) for key, one in value.items()}
        case list() | tuple():
            return [json_value(one) for one in value]
        case _:
            return None


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
