"""Recalls computed from a server's answers: every photo uploaded, every caption typed.

    meet-serve --index ROOT --port 8000 &
    python -m benchmarks.http_recall --url http://127.0.0.1:8000 --data DIR --split dev

Prints the JSON of `meet-eval`'s `cascade`; the two agree to 0.1 on one artifact.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import httpx
import numpy as np

from model.core.metrics import CUTS, Recalls
from model.data.open import open_collection
from model.data.records import Collection
from model.progress import bar

DEPTH = max(CUTS)


def recalls_over_http(client: httpx.Client, collection: Collection, step: int = 1) -> Recalls:
    """Recalls of every `step`-th photo and every `step`-th caption of a split."""
    i2t = np.array(list(_image_ranks(client, collection, step)), np.int32)
    t2i = np.array(list(_text_ranks(client, collection, step)), np.int32)
    return Recalls.of(i2t, t2i)


def _image_ranks(client: httpx.Client, collection: Collection, step: int) -> Iterator[int]:
    for row in bar(collection.image_rows[::step], desc="photos"):
        record = collection.records[row]
        if record.image is None:
            continue
        files = {"image": (f"{record.id}.jpg", record.image.read_bytes(), "image/jpeg")}
        answer = client.post("/search/image-to-text", files=files, data={"k": str(DEPTH)})
        true = {record.caption_id(place) for place in range(len(record.captions))}
        yield _rank(answer, true)


def _text_ranks(client: httpx.Client, collection: Collection, step: int) -> Iterator[int]:
    owners = collection.caption_record
    for row in bar(range(0, len(owners), step), desc="captions"):
        told = {"query": collection.captions[row], "k": DEPTH}
        answer = client.post("/search/text-to-image", json=told)
        yield _rank(answer, {collection.records[owners[row]].id})


def _rank(answer: httpx.Response, true: set[str]) -> int:
    """Rank of the first true hit, the list's length where none is listed."""
    hits = answer.raise_for_status().json()["hits"]
    return next((hit["rank"] for hit in hits if hit["id"] in true), DEPTH)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask the server and print the recalls."""
    parser = argparse.ArgumentParser(prog="http_recall", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--step", type=int, default=1, help="ask every n-th photo and caption")
    told = parser.parse_args(argv)
    collection = open_collection(told.data, told.split)
    with httpx.Client(base_url=told.url, timeout=60) as client:
        print(recalls_over_http(client, collection, told.step).model_dump_json(indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
