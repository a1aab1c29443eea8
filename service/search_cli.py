"""`meet-search`: ask a server, or an index without one, with a text or an image."""

import argparse
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

import httpx
from pydantic import JsonValue

from model.core.command import exit_status
from service.client import Call, Hit, MeetClient, SearchAnswer
from service.search_flags import call_of, parser
from service.table import table

Both: TypeAlias = tuple[SearchAnswer, JsonValue]
PictureOf = Callable[[Hit], str | None]


def main(argv: Sequence[str] | None = None) -> int:
    """0 with the hits on stdout, 2 with one sentence on stderr where there is no answer."""
    return exit_status("meet-search", lambda: _run(parser().parse_args(argv)))


def _run(told: argparse.Namespace) -> None:
    call = _with_raw(call_of(told))
    (answer, raw), picture_of = _in_index(told, call) if told.index else _on_server(told, call)
    if told.json:
        _say(json.dumps(raw, indent=2, ensure_ascii=False) + "\n")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        _say(table(answer, picture_of, width))


def _with_raw(call: Call[SearchAnswer]) -> Call[Both]:
    """The same call, whose answer also comes as it was told: fields that no schema knows, too."""
    read = call.read
    return Call(
        call.method,
        call.path,
        lambda response: (read(response), response.json()),
        call.fields,
        call.image,
    )


def _on_server(told: argparse.Namespace, call: Call[Both]) -> tuple[Both, PictureOf]:
    from service.settings import SearchSettings  # what flags already say needs no environment

    settings = SearchSettings()
    url, key = told.url or settings.url, settings.api_key
    secret = None if key is None else key.get_secret_value()
    with MeetClient(url, api_key=secret, timeout=told.timeout) as client:
        answer = client.ask(call)
    shown = str(httpx.URL(url).copy_with(userinfo=b"")).rstrip("/")
    return answer, lambda hit: hit.image and shown + hit.image


def _in_index(told: argparse.Namespace, call: Call[Both]) -> tuple[Both, PictureOf]:
    from service.local import LocalIndex  # torch and faiss: seconds that a server's caller saves

    index = LocalIndex(told.index)
    return index.ask(call), index.picture_of


def _say(text: str) -> None:
    """Print; a reader that left early has what it wanted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
