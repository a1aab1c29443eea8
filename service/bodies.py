"""Request bodies: JSON and multipart forms read into schemas, every refusal named."""

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.message import Message
from functools import lru_cache
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from model.core.brief import brief, shortened
from service.errors import (
    BrokenFormError,
    BrokenJsonError,
    InvalidRequestError,
    UnsupportedMediaTypeError,
    Violation,
)
from service.formats import HEADERS, Form, json_of
from service.problems import violation
from service.schemas import ImageUpload

JSON = Form.JSON.value
BODIES = tuple(Form)
FORM = "multipart/form-data"
SHOWN_VIOLATIONS = 8
MAX_FORM_FIELDS = 16
UPLOAD_FIELD = "image"
PLAIN = "identity"  # the content coding of a body as it is

Schema = TypeVar("Schema", bound=BaseModel)


def media_type(request: Request) -> str:
    """The content type without its parameters, in lower case; empty where none is named."""
    return _media_type(request.headers.get("content-type", ""))


@lru_cache(HEADERS)
def _media_type(header: str) -> str:
    if not header:
        return ""
    told = Message()
    told["content-type"] = header
    return told.get_content_type()


def refuse_media_type(got: str, *accepted: str) -> UnsupportedMediaTypeError:
    """The error that names what is read and what came."""
    return UnsupportedMediaTypeError(
        f"the body needs content type {' or '.join(accepted)}, got {shortened(got) or 'none'}"
    )


async def read_json(request: Request, schema: type[Schema], *, optional: bool = False) -> Schema:
    """The JSON or msgpack body as `schema`; both keep the same rules.

    An `optional` body that is empty says nothing, and needs no content type.

    Raises:
        UnsupportedMediaTypeError: the body is declared as neither, or as compressed.
        BrokenJsonError, BrokenMsgpackError: the body cannot be parsed.
        InvalidRequestError: a field breaks a rule.
    """
    body = await _whole(request) if optional else None
    if body == b"":
        return schema()
    _require_plain(request)
    if (got := media_type(request)) not in BODIES:
        raise refuse_media_type(got, *BODIES)
    if body is None:
        body = await _whole(request)
    if got != JSON:
        body = json_of(body)
    try:
        return schema.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _invalid(error) from None


async def _whole(request: Request) -> bytes:
    """The body, without the framework's stream between.

    Raises:
        ClientDisconnect: the caller hung up before its end.
    """
    parts, more = [], True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def read_upload(request: Request) -> ImageUpload:
    """The multipart form: the file `image`, and the fields of every search beside it.

    Raises:
        UnsupportedMediaTypeError: the body is declared as compressed.
        BrokenFormError: the body cannot be parsed, or breaks off.
        InvalidRequestError: the file is not there, or a field breaks a rule.
    """
    _require_plain(request)
    async with aclosing(request.stream()) as stream:
        parser = _Form(request.headers, stream, max_files=1, max_fields=MAX_FORM_FIELDS)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise BrokenFormError(f"the form cannot be read: {error.message}") from None
    try:
        _require_once(form)
        parts = {name: _read(await _part(name, value)) for name, value in form.items()}
    finally:
        await form.close()
    try:
        return ImageUpload.model_validate(parts)
    except ValidationError as error:
        raise _invalid(error) from None


class _Form(MultiPartParser):
    """A form that is whole, and whose files stay in memory: bodies are bounded, disks may lack."""

    spool_max_size = sys.maxsize
    ended = False
    # Forms are UTF-8 (RFC 7578, 5.1.2); a codec that the caller names may fail, or give no text.
    _charset = property(lambda _: "utf-8", lambda *_: None)

    def on_end(self) -> None:
        """Note that the last boundary came."""
        self.ended = True

    async def parse(self) -> FormData:
        """The fields of a whole form; one that breaks off would look like one with less in it.

        Raises:
            BrokenFormError: the last boundary never came.
            MultiPartException: what came is no form.
        """
        async with aclosing(self._whole(self.stream)) as stream:
            self.stream = stream
            return await super().parse()

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self.ended:  # raised here, the parser closes the files that it has opened
            raise BrokenFormError("the form breaks off: its last boundary is missing")


def _require_plain(request: Request) -> None:
    coding = request.headers.get("content-encoding", PLAIN)
    if coding.strip().lower() != PLAIN:
        raise UnsupportedMediaTypeError(
            f"bodies are not unpacked here: send it without Content-Encoding, got {brief(coding)}"
        )


def _require_once(form: FormData) -> None:
    """Refuse a field that is given twice: the last one would count, and nothing would say so."""
    twice = [name for name in form if len(form.getlist(name)) > 1]
    if twice:
        rule = "is given once, lists are sent as JSON"
        raise InvalidRequestError(
            [Violation(field=shortened(name), rule=rule, value="several") for name in twice]
        )


async def _part(name: str, value: UploadFile | str) -> bytes | str:
    """A file's bytes, a field's text; only the field `image` is a file."""
    is_file = isinstance(value, UploadFile)
    if is_file is not (name == UPLOAD_FIELD):
        rule, got = ("needs a file", "text") if name == UPLOAD_FIELD else ("is no file", "a file")
        raise InvalidRequestError([Violation(field=shortened(name), rule=rule, value=got)])
    return await value.read() if isinstance(value, UploadFile) else value


def _read(value: bytes | str) -> object:
    """A text that is a JSON list or object, which a form has no other way to hold, as that."""
    if isinstance(value, bytes) or not value.startswith(("[", "{")):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


def _invalid(error: ValidationError) -> BrokenJsonError | InvalidRequestError:
    entries = error.errors(include_url=False)
    if entries[0]["type"] == "json_invalid":
        return BrokenJsonError(entries[0]["msg"])
    return InvalidRequestError([violation(entry) for entry in entries[:SHOWN_VIOLATIONS]])
