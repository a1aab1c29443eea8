"""`meet-search`: ask a server, or an index without one, with a text or an image."""

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import httpx

from model.core.command import exit_status
from model.core.errors import InputError
from model.core.types import RerankMode
from model.data.files import IMAGE_SUFFIXES
from service.client import Call, Hit, MeetClient, SearchAnswer, SearchParams
from service.client.calls import search_image, search_text
from service.client.clients import TIMEOUT_SECONDS
from service.settings import SearchSettings
from service.table import table

PictureOf = Callable[[Hit], str | None]


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """0 with the hits on stdout, 2 with one sentence on stderr where there is no answer."""
    return exit_status("meet-search", lambda: _run(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="meet-search",
        description="Search by a text or an image file, on a server or in an index directory.",
    )
    parser.add_argument("query", help="a text, or the path of an image file")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_true", help="the query is a text, whatever it names")
    kind.add_argument("--image", action="store_true", help="the query is the path of an image file")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="a server (else MEET_URL, else http://127.0.0.1:8000)")
    where.add_argument("--index", type=Path, metavar="DIR", help="an index, without a server")
    parser.add_argument("--k", type=int, help="hits wanted (10)")
    parser.add_argument("--rerank", choices=[mode.value for mode in RerankMode], help="Stage II")
    parser.add_argument("--explain", action="store_true", help="what each stage made of each hit")
    parser.add_argument("--json", action="store_true", help="the whole answer for machines")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds (30)")
    return parser


def _run(told: argparse.Namespace) -> None:
    call = _call(told)
    answer, picture_of = _in_index(told, call) if told.index else _on_server(told, call)
    if told.json:
        _say(answer.model_dump_json(exclude_none=True, indent=2) + "\n")
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        _say(table(answer, picture_of, width))


def _call(told: argparse.Namespace) -> Call[SearchAnswer]:
    params: SearchParams = {"explain": told.explain, "rerank": told.rerank}
    if told.k is not None:
        params["k"] = told.k
    if told.image or (not told.text and _names_image(told.query)):
        return search_image(told.query, **params)
    return search_text(told.query, **params)


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


def _on_server(
    told: argparse.Namespace, call: Call[SearchAnswer]
) -> tuple[SearchAnswer, PictureOf]:
    settings = SearchSettings()
    url, key = told.url or settings.url, settings.api_key
    secret = None if key is None else key.get_secret_value()
    with MeetClient(url, api_key=secret, timeout=told.timeout) as client:
        answer = client.ask(call)
    shown = str(httpx.URL(url).copy_with(userinfo=b"")).rstrip("/")
    return answer, lambda hit: hit.image and shown + hit.image


def _in_index(told: argparse.Namespace, call: Call[SearchAnswer]) -> tuple[SearchAnswer, PictureOf]:
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
