"""How made-up msgpack bodies are written; read by the fuzzer's own process."""

from typing import Any

import msgpack
import schemathesis


@schemathesis.serializer("application/msgpack", "application/x-msgpack")
def packed(_: schemathesis.SerializationContext, value: Any) -> bytes:  # noqa: ANN401 - any JSON
    """The value's bytes; numbers that msgpack has no room for are sent as JSON, to be refused."""
    try:
        return bytes(msgpack.packb(value))
    except (OverflowError, ValueError, TypeError):
        return repr(value).encode()
