"""What a server says once it is up: its address and two commands that work as they stand."""

import json
import shlex

from model.core.types import Direction, Modality
from service.engine import SearchEngine

WILDCARDS = {"0.0.0.0", "::", ""}
EXAMPLE_TEXT = "two people in the street"


def greeting(engine: SearchEngine, host: str, port: int) -> str:
    """The lines to print."""
    shown = "localhost" if host in WILDCARDS else f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    lines = [f"MEET serves index {engine.version} at {url} (API: {url}/docs)"]
    lines += [_example(engine, direction, url) for direction in Direction]
    return "\n".join(lines) + "\n"


def _example(engine: SearchEngine, direction: Direction, url: str) -> str:
    query = _query(engine, direction)
    if query is None:
        return f"curl -s {url}/index"
    body = shlex.quote(json.dumps(query))
    return f"curl -s {url}/search/{direction} -H 'content-type: application/json' -d {body}"


def _query(engine: SearchEngine, direction: Direction) -> dict[str, str | int] | None:
    """A query that this index answers in this direction, if one is short enough to print."""
    fields = engine.accepts(direction)
    if "query" in fields:
        captions = engine.artifact.sides.get(Modality.TEXT)
        caption = captions.items[0].caption if captions else None
        return {"query": caption or EXAMPLE_TEXT, "k": 3}
    if "id" in fields:
        return {"id": engine.artifact.side(direction.query).items.id(0), "k": 3}
    return None
