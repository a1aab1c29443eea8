"""The forms of an answer, JSON or msgpack: which one a caller takes, and both ways through it."""

from base64 import b64encode
from collections.abc import Mapping
from email.message import Message
from enum import StrEnum
from functools import lru_cache

import msgpack
import numpy as np
from fastapi import Response
from pydantic_core import PydanticSerializationError, from_json, to_json

from model.core.brief import brief
from service.errors import BrokenMsgpackError, NotAcceptableError

FLOAT_BYTES = 4
HEADERS = 256  # that are read once: callers send few different ones
VECTOR_FIELD, IMAGE_FIELD = "vector", "image"


class Form(StrEnum):
    """A media type that answers are given in; the first one where a caller does not mind."""

    JSON = "application/json"
    MSGPACK = "application/msgpack"
    X_MSGPACK = "application/x-msgpack"

    @property
    def packed(self) -> bool:
        """Whether it is msgpack, whatever it is called."""
        return self is not Form.JSON


@lru_cache(HEADERS)
def accepted(header: str) -> Form:
    """The form that an Accept header (RFC 9110, 12.5.1) likes best; without one JSON.

    Of forms that are liked as much the first in `Form` wins. What cannot be read of the header
    is passed over.

    Raises:
        NotAcceptableError: the header leaves none of them.
    """
    ranges = [one for part in header.split(",") if (one := _range(part)) is not None]
    if not ranges:
        return Form.JSON
    best = max(Form, key=lambda form: _liking(form, ranges))
    if _liking(best, ranges) <= 0:
        raise NotAcceptableError(
            f"answers are given as {' or '.join(Form)}, the header Accept takes {brief(header)}"
        )
    return best


def _range(part: str) -> tuple[str, float] | None:
    """A media range and its quality; None for what is no range."""
    told = Message()
    told["content-type"] = part.strip()
    name = part.partition(";")[0].strip().lower()
    quality = told.get_param("q", "1")
    try:
        weight = float(quality) if isinstance(quality, str) else 1.0
    except ValueError:
        return None
    return (name, weight) if name.count("/") == 1 and 0 <= weight <= 1 else None


def _liking(form: Form, ranges: list[tuple[str, float]]) -> float:
    """The quality of a form: that of the most specific range which names it, 0 where none does."""
    for name in (form.value, "application/*", "*/*"):
        if found := [quality for one, quality in ranges if one == name]:
            return max(found)
    return 0.0


def in_form(answer: Mapping[str, object], form: Form) -> Response:
    """The answer in a form; what is not finite becomes null in each of them."""
    content = to_json(answer, inf_nan_mode="null")
    if form.packed:
        # Whole numbers beyond 64 bits, which metadata may hold, come as text.
        content = msgpack.packb(from_json(content), default=str)
    return Response(content, media_type=form.value, headers={"Vary": "Accept"})


def json_of(body: bytes) -> bytes:
    """A msgpack body as JSON: a binary `vector` as its float32 values, an `image` in base64.

    Raises:
        BrokenMsgpackError: the body is no msgpack, or holds what no request does.
    """
    try:
        return to_json(_plain(msgpack.unpackb(body), ""), inf_nan_mode="constants")
    except (ValueError, PydanticSerializationError, RecursionError) as error:
        # Every error of the unpacker is a ValueError.
        reason = str(error).rstrip(".") or "it breaks off, or nests too deep"
        raise BrokenMsgpackError(f"the body is no msgpack: {reason}") from None


def _plain(value: object, name: str) -> object:
    match value:
        case dict():
            return {_key(key): _plain(one, key) for key, one in value.items()}
        case list():
            return [_plain(one, "") for one in value]
        case bytes() if name == IMAGE_FIELD:
            return b64encode(value).decode("ascii")
        case bytes() if name == VECTOR_FIELD and len(value) % FLOAT_BYTES == 0:
            return np.frombuffer(value, dtype="<f4").tolist()
        case None | bool() | int() | float() | str():
            return value
        case _:
            got = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
            raise BrokenMsgpackError(
                "a body holds what JSON has, and bytes as a `vector` of float32 values or as an "
                f"`image`, got {got} as {brief(name)}"
            )


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise BrokenMsgpackError(f"names of fields are texts, got {brief(key)}")
    return key
