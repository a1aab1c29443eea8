"""The search page at `/` and its files; `service/headers.py` has the policy they obey."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

HEADERS = {
    # Names carry no version: a browser asks each time, and reads again only what changed.
    "Cache-Control": "no-cache",
}
MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
INDEX = "index.html"
MISSING: Mapping[int | str, dict[str, Any]] = {304: {}, 404: {}}
router = APIRouter(include_in_schema=False, responses=dict(MISSING))


@dataclass(frozen=True)
class PageFile:
    """One file of the page and the tag that changes with it."""

    data: bytes
    media_type: str
    etag: str


@router.get("/")
def page(request: Request) -> Response:
    """The page, to callers that take HTML; there is nothing else here."""
    if not _wants_html(request.headers.get("accept", "")):
        raise HTTPException(404)
    response = _answer(request, INDEX)
    response.headers["Vary"] = "Accept"
    return response


@router.get("/page/{name}")
def page_file(request: Request, name: str) -> Response:
    """A script, style or drawing of the page."""
    if name == INDEX:
        raise HTTPException(404)
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    file = _page_files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = HEADERS | {"ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.data, headers=headers, media_type=file.media_type)


@cache
def _page_files() -> Mapping[str, PageFile]:
    """The packaged files by name: a name from outside never becomes a path."""
    folder = Path(str(files("service") / "page"))
    return {path.name: _read(path) for path in folder.iterdir() if path.suffix in MEDIA_TYPES}


def _read(path: Path) -> PageFile:
    data = path.read_bytes()
    etag = f'"{blake2b(data, digest_size=12).hexdigest()}"'
    return PageFile(data, MEDIA_TYPES[path.suffix], etag)


def _wants_html(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return not kinds.isdisjoint({"", "*/*", "text/*", "text/html"})
