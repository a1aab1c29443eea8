"""What a request may hold: limits, texts, and bytes in base64."""

import base64
import binascii
import re

from model.core.brief import brief
from model.core.errors import ImageRejectedError, TextRejectedError
from service.errors import InvalidRequestError, Violation
from service.limits import Limits

ASCII_WHITESPACE = b" \t\r\n"
WHITESPACE = ASCII_WHITESPACE.decode()
# What stands before the comma of a data URL (RFC 2397) of an image in base64.
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[^;,]*)*;base64", re.ASCII | re.IGNORECASE)


def check_limit(field: str, value: int, most: int, named: str = "") -> None:
    """Refuse a value above its limit, which may have a name.

    Raises:
        InvalidRequestError: names the field, the limit and the value.
    """
    if value > most:
        rule = f"Input should be at most {most}{named and f' ({named})'}"
        raise InvalidRequestError([Violation(field=field, rule=rule, value=str(value))])


def checked_text(field: str, text: str, limits: Limits) -> str:
    """The text of a field, stripped.

    Raises:
        TextRejectedError: empty, or above the limit of characters or words.
    """
    text = text.strip()
    if not text:
        raise TextRejectedError(f"`{field}` needs at least one word, got none")
    if len(text) > limits.max_text_chars:
        raise TextRejectedError(
            f"`{field}` takes at most {limits.max_text_chars} characters, got {len(text)}"
        )
    if (words := len(text.split())) > limits.max_text_words:
        raise TextRejectedError(
            f"`{field}` takes at most {limits.max_text_words} words, got {words}"
        )
    return text


def image_bytes(text: str) -> bytes:
    """The bytes behind base64, or behind a data URL of an image; line breaks allowed.

    Raises:
        ImageRejectedError: it is neither.
    """
    head, comma, coded = text.partition(",")
    if comma and not _DATA_URL.fullmatch(head.strip(WHITESPACE)):
        raise _no_image(head)
    try:
        plain = (coded if comma else text).encode("ascii").translate(None, ASCII_WHITESPACE)
        return base64.b64decode(plain, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _no_image(text) from error


def _no_image(got: str) -> ImageRejectedError:
    return ImageRejectedError(
        "`image` takes an image file in base64, or as a data URL (data:image/png;base64,…); other "
        f"URLs are not fetched, got {brief(got)}"
    )
