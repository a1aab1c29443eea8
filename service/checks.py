"""What a request may hold: limits, texts, and bytes in base64."""

import base64
import binascii

from model.core.errors import ImageRejectedError, TextRejectedError
from service.errors import InvalidRequestError, Violation
from service.limits import Limits

ASCII_WHITESPACE = b" \t\r\n"


def check_limit(field: str, value: int, most: int, named: str = "") -> None:
    """Refuse a value above its limit, which may have a name.

    Raises:
        InvalidRequestError: names the field, the limit and the value.
    """
    if value > most:
        rule = f"Input should be at most {most}{named and f' ({named})'}"
        raise InvalidRequestError([Violation(field=field, rule=rule, value=str(value))])


def checked_text(text: str, limits: Limits) -> str:
    """The text, stripped.

    Raises:
        TextRejectedError: empty, or above the limit of characters or words.
    """
    text = text.strip()
    if not text:
        raise TextRejectedError("a query needs at least one word, got none")
    if len(text) > limits.max_text_chars:
        raise TextRejectedError(
            f"a query takes at most {limits.max_text_chars} characters, got {len(text)}"
        )
    if (words := len(text.split())) > limits.max_text_words:
        raise TextRejectedError(f"a query takes at most {limits.max_text_words} words, got {words}")
    return text


def base64_bytes(text: str) -> bytes:
    """The bytes behind base64, line breaks allowed.

    Raises:
        ImageRejectedError: it is no base64.
    """
    try:
        plain = text.encode("ascii").translate(None, ASCII_WHITESPACE)
        return base64.b64decode(plain, validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ImageRejectedError("`image` needs the bytes of an image file in base64") from error
