"""Ask a server of its own 20 true pairs both ways, and the cascade the same: 0 if all is well.

    python -m benchmarks.smoke --index demo/index

Well means: at least 16 of 20 are in the top 10 each way, and every answer over HTTP has the ids,
order and scores of the cascade called directly on the same index.
"""

import argparse
import json
import random
import re
import secrets
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model.artifact.items import Item, ItemTable
from model.artifact.reader import Artifact, open_artifact
from model.cascade import Cascade, SearchOptions
from model.core.errors import InputError, MeetError
from model.core.types import Direction, FloatArray, Modality
from model.data.image_limits import ImageLimits
from model.data.images import decode_image
from model.encoders.opening import open_encoder
from model.encoders.protocols import Encoder

TOLERANCE = 1e-4
START_SECONDS = 120
STOP_SECONDS = 10
ANSWER_SECONDS = 60
SHOWN_CAPTION = 48


@dataclass(frozen=True)
class Pair:
    """An image of the gallery and one of its captions."""

    image: Item
    caption: Item
    caption_ids: frozenset[str]

    def picture(self) -> bytes:
        """The image file that the index was built from."""
        if self.image.image is None:
            raise InputError(f"a smoke test needs the images, {self.image.id!r} has none")
        return self.image.image.read_bytes()


@dataclass(frozen=True)
class Answer:
    """Ids, best first, and their scores."""

    ids: list[str]
    scores: list[float]

    def rank_of(self, true: frozenset[str]) -> int | None:
        """The rank, 0 = best, of the first true id."""
        return next((rank for rank, one in enumerate(self.ids) if one in true), None)

    def equals(self, other: "Answer") -> bool:
        """The same ids in the same order, with scores that differ by rounding at most."""
        if self.ids != other.ids:
            return False
        pairs = zip(self.scores, other.scores, strict=True)
        return all(abs(one - another) <= TOLERANCE for one, another in pairs)


@dataclass(frozen=True)
class Verdict:
    """What one pair gave in one direction."""

    rank: int | None
    equal: bool


@dataclass(frozen=True)
class Direct:
    """The cascade over the opened index, called in this process."""

    artifact: Artifact
    encoder: Encoder
    cascade: Cascade
    k: int

    @classmethod
    def open(cls, root: Path, k: int) -> "Direct":
        """The published version of the index."""
        artifact = open_artifact(root)
        encoder = open_encoder(artifact.encoder_source)
        return cls(artifact, encoder, Cascade.from_artifact(artifact), k)

    def by_text(self, text: str) -> Answer:
        """Images for a text."""
        return self._search(Direction.TEXT_TO_IMAGE, self.encoder.encode_texts([text]))

    def by_image(self, data: bytes) -> Answer:
        """Captions for an image file."""
        image = decode_image(data, ImageLimits())
        return self._search(Direction.IMAGE_TO_TEXT, self.encoder.encode_images([image]))

    def _search(self, direction: Direction, embedding: FloatArray) -> Answer:
        options = SearchOptions(k=self.k, budget=self.artifact.manifest.budget)
        (ranking,) = self.cascade.search(direction, embedding, options)
        items = self.artifact.side(direction.candidate).items
        return Answer([items.id(int(row)) for row in ranking.rows], ranking.scores.tolist())


@dataclass(frozen=True)
class OverHttp:
    """The server, asked as a user asks it."""

    url: str
    k: int

    def by_text(self, text: str) -> Answer:
        """Images for a text."""
        body = json.dumps({"query": text, "k": self.k}).encode()
        return self._ask(Direction.TEXT_TO_IMAGE, body, "application/json")

    def by_image(self, data: bytes) -> Answer:
        """Captions for an uploaded image file."""
        edge = secrets.token_hex(16)
        parts = (
            f'--{edge}\r\ncontent-disposition: form-data; name="k"\r\n\r\n{self.k}\r\n'.encode(),
            f"--{edge}\r\ncontent-disposition: form-data; ".encode(),
            b'name="image"; filename="picture"\r\ncontent-type: application/octet-stream\r\n\r\n',
            data,
            f"\r\n--{edge}--\r\n".encode(),
        )
        kind = f"multipart/form-data; boundary={edge}"
        return self._ask(Direction.IMAGE_TO_TEXT, b"".join(parts), kind)

    def _ask(self, direction: Direction, body: bytes, kind: str) -> Answer:
        request = urllib.request.Request(
            f"{self.url}/search/{direction}", data=body, headers={"content-type": kind}
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            hits = json.load(response)["hits"]
        return Answer([hit["id"] for hit in hits], [hit["score"] for hit in hits])


@contextmanager
def serving(root: Path) -> Iterator[str]:
    """The URL of a server of the index on a free port; it is stopped at the end."""
    with started(root) as (_, url):
        yield url


@contextmanager
def started(root: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same with its process."""
    command = [sys.executable, "-m", "service.cli", "--index", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield server, announced_url(server)
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


def announced_url(server: subprocess.Popen[str], seconds: float = START_SECONDS) -> str:
    """The address that a server just started says on its standard output.

    Raises:
        MeetError: it ended without one, or was killed because it said none in time.
    """
    # A read has no time-out of its own; of a killed server it ends.
    timer = threading.Timer(seconds, server.kill)
    timer.start()
    try:
        for line in server.stdout or ():
            if found := re.search(r"http://[\w.:\[\]]+:\d+", line):
                return found[0]
    finally:
        timer.cancel()
    raise MeetError(f"the server ended, or said no address within {seconds:g} seconds")


def draw_pairs(artifact: Artifact, count: int, seed: int) -> list[Pair]:
    """Different images with captions, one caption each."""
    images, texts = (artifact.side(modality).items for modality in Modality)
    captioned = [row for row in range(len(images)) if images[row].n_captions]
    if len(captioned) < count:
        raise InputError(f"{count} pairs need as many captioned images, got {len(captioned)}")
    draw = random.Random(seed)
    return [_pair(images[row], draw, texts) for row in draw.sample(captioned, count)]


def _pair(image: Item, draw: random.Random, texts: ItemTable) -> Pair:
    captions = [texts[row] for row in image.caption_rows]
    return Pair(image, draw.choice(captions), frozenset(one.id for one in captions))


def ask(pair: Pair, direct: Direct, served: OverHttp) -> tuple[Verdict, Verdict]:
    """The pair's verdicts, text to image and image to text."""
    text, picture = pair.caption.caption or "", pair.picture()
    found = (served.by_text(text), served.by_image(picture))
    wanted = (direct.by_text(text), direct.by_image(picture))
    true = (frozenset({pair.image.id}), pair.caption_ids)
    verdicts = [
        Verdict(answer.rank_of(ids), answer.equals(other))
        for answer, other, ids in zip(found, wanted, true, strict=True)
    ]
    return verdicts[0], verdicts[1]


def report(pairs: Sequence[Pair], verdicts: Sequence[tuple[Verdict, Verdict]]) -> str:
    """The table: each way's rank (1 = best) of the true match, and whether both equal `Direct`."""
    head = (
        f"{'image':<14}{'caption':<{SHOWN_CAPTION + 2}}{'text>image':>11}{'image>text':>11}  same"
    )
    lines = [head, "-" * len(head)]
    for pair, both in zip(pairs, verdicts, strict=True):
        text = (pair.caption.caption or "")[:SHOWN_CAPTION]
        ranks = "".join(f"{_shown(verdict.rank):>11}" for verdict in both)
        same = "yes" if all(verdict.equal for verdict in both) else "NO"
        lines.append(f"{pair.image.id:<14}{text:<{SHOWN_CAPTION + 2}}{ranks}  {same}")
    return "\n".join(lines)


def _shown(rank: int | None) -> str:
    return "-" if rank is None else str(rank + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if enough pairs are found both ways and all answers are equal, else 1."""
    options = _parser().parse_args(arguments)
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    try:
        direct = Direct.open(options.index, options.k)
        pairs = draw_pairs(direct.artifact, options.pairs, seed)
        with serving(options.index) as url:
            print(f"{options.pairs} true pairs drawn with seed {seed}, asked at {url}")
            served = OverHttp(url, options.k)
            verdicts = [ask(pair, direct, served) for pair in pairs]
    except (MeetError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(report(pairs, verdicts))
    return _summary(verdicts, options)


def _summary(verdicts: Sequence[tuple[Verdict, Verdict]], options: argparse.Namespace) -> int:
    found = [sum(one.rank is not None for one in way) for way in zip(*verdicts, strict=True)]
    equal = all(verdict.equal for both in verdicts for verdict in both)
    passed = equal and min(found) >= options.at_least
    print(
        f"in the top {options.k}: text to image {found[0]}, image to text {found[1]} of "
        f"{len(verdicts)} ({options.at_least} needed); answers equal the cascade called directly: "
        f"{'yes' if equal else 'no'}\nsmoke test {'passed' if passed else 'FAILED'}"
    )
    return 0 if passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Ask a server of its own true pairs both ways.")
    parser.add_argument("--index", type=Path, required=True, help="what meet-build wrote")
    parser.add_argument("--pairs", type=int, default=20, help="how many pairs are drawn")
    parser.add_argument("--at-least", type=int, default=16, help="how many need to be found")
    parser.add_argument("--k", type=int, default=10, help="how many hits count as found")
    parser.add_argument("--seed", type=int, help="of the draw; a random one by default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
