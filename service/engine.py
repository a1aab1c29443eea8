"""One opened index with its encoder and cascade: all that a request asks of the model side."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from model.artifact.items import Item
from model.artifact.metadata import field_names
from model.artifact.reader import Artifact, open_artifact
from model.cascade import Cascade, SearchOptions
from model.core.brief import brief
from model.core.errors import DataFormatError, UnknownItemError
from model.core.types import (
    CandidateBudget,
    Direction,
    FloatArray,
    InputKind,
    Kinship,
    Modality,
    Way,
)
from model.core.vectors import l2_normalised, query_vectors
from model.encoders.opening import open_encoder
from model.encoders.protocols import Encoder
from model.reverse_lists.layers import ComputedLists, LayeredLists, MemoryLayer, StoredLists
from model.reverse_lists.redis_layer import RedisLayer
from service.cards import cards
from service.errors import MissingModalityError, NoImageError
from service.queries import Query, Search, TextQuery, VectorQuery

WEBP = "image/webp"
# First bytes of the files that are handed out; nothing else leaves as a picture.
SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
}
LIST_LAYERS = tuple(layer.name for layer in (MemoryLayer, StoredLists, RedisLayer, ComputedLists))
NAMES = {Modality.IMAGE: "an image", Modality.TEXT: "a caption"}
PROBE_TEXT = "a picture"


@dataclass(frozen=True)
class Picture:
    """An image file and what it is."""

    data: bytes
    media_type: str


class SearchEngine:
    """Searches and items of one index; searches belong to one thread at a time."""

    def __init__(self, artifact: Artifact, encoder: Encoder, cascade: Cascade) -> None:
        """Take parts that fit together.

        Raises:
            EncoderMismatchError: the index was built with another encoder.
        """
        artifact.require_encoder(encoder.identity)
        self.artifact, self.encoder, self.cascade = artifact, encoder, cascade
        self.cards = cards(artifact)

    @classmethod
    def open(
        cls,
        root: Path,
        version: str | None = None,
        *,
        device: str = "cpu",
        loaded: Encoder | None = None,
    ) -> Self:
        """A version of the index at `root`, the published one if none is named, whole and checked.

        An encoder that is loaded on this device already serves again where it is the index's.

        Raises:
            ArtifactError: the index cannot be opened as it was written.
            CheckpointError: its encoder cannot be.
        """
        artifact = open_artifact(root, version)
        if loaded is not None and loaded.identity.digest == artifact.manifest.encoder.digest:
            encoder = loaded
        else:
            encoder = open_encoder(artifact.encoder_source, device)
        artifact.require_encoder(encoder.identity)
        return cls(artifact, encoder, Cascade.from_artifact(artifact, device=device))

    @property
    def version(self) -> str:
        """The index version."""
        return self.artifact.version

    @property
    def budget(self) -> CandidateBudget:
        """How many candidates each stage keeps."""
        return self.artifact.manifest.budget

    @cached_property
    def metadata_fields(self) -> Sequence[str]:
        """Names that filters can ask for, as far as the first items of each side tell."""
        tables = [side.items.metadata for side in self.artifact.sides.values()]
        return sorted({name for texts in tables for name in field_names(texts)})

    def accepts(self, way: Way) -> list[str]:
        """Query fields that a search in this direction can be asked with; none: not at all."""
        if way.candidate not in self.artifact.sides:
            return []
        if isinstance(way, Kinship):
            return ["id"]
        kinds = self.encoder.identity.accepts
        match way:
            case Direction.TEXT_TO_IMAGE:
                known = {"query": InputKind.TEXT in kinds}
            case Direction.IMAGE_TO_TEXT:
                known = {"image": InputKind.IMAGE in kinds}
        known["id"] = way.query in self.artifact.sides
        return [name for name, accepted in known.items() if accepted] + ["vector"]

    def require_candidates(self, direction: Way) -> None:
        """Refuse a direction whose candidates the gallery lacks.

        Raises:
            MissingModalityError: names the direction and what there is.
        """
        if direction.candidate not in self.artifact.sides:
            held = " and ".join(sorted(self.artifact.sides)) or "no"
            raise MissingModalityError(
                f"{direction} needs {direction.candidate} items, this gallery holds {held} items"
            )

    def embed_vectors(self, vectors: Sequence[Sequence[float]]) -> FloatArray:
        """The unit embeddings (B, D) of callers' vectors.

        Raises:
            VectorRejectedError: another width than D, no direction, or no finite values.
        """
        return query_vectors(vectors, self.artifact.manifest.embedding_dim)

    def embed_stored(self, items: Sequence[tuple[Modality, int]]) -> FloatArray:
        """The unit embeddings (B, D) that the gallery holds of rows of its modalities."""
        sides = self.cascade.sides
        stored = [sides[modality].embeddings[row] for modality, row in items]
        return l2_normalised(np.array(stored, dtype=np.float32))

    def row(self, modality: Modality, item_id: str) -> int | None:
        """The row of an id among the items of one modality; None where it has none."""
        side = self.artifact.sides.get(modality)
        return None if side is None else side.items.row(item_id)

    def require_row(self, modality: Modality, item_id: str) -> int:
        """The row of an id among the items of one modality.

        Raises:
            UnknownItemError: no such item, or one of the other modality.
        """
        if (row := self.row(modality, item_id)) is not None:
            return row
        self.artifact.find(item_id)
        needed = NAMES[modality]
        raise UnknownItemError(
            f"{brief(item_id)} is {NAMES[modality.other]}, the id of {needed} is needed"
        )

    def family(self, modality: Modality, row: int, wanted: Modality) -> range:
        """Rows of one modality that belong to the same image as an item, itself among them."""
        partners = self.artifact.side(modality).items.partners_of(row)
        if modality is not wanted:
            return partners
        if modality is Modality.TEXT and partners:
            return self.artifact.side(Modality.IMAGE).items.partners_of(partners.start)
        return range(row, row + 1)

    def probe(self) -> Search:
        """A real query that this index answers.

        Raises:
            MissingModalityError: the gallery is empty.
        """
        direction = next((d for d in Direction if d.candidate in self.artifact.sides), None)
        if direction is None:
            raise MissingModalityError("a probe needs items to find, this gallery holds none")
        return Search(direction, self._probe_query(direction), SearchOptions(1, budget=self.budget))

    def item(self, item_id: str) -> Item:
        """The item of an id.

        Raises:
            UnknownItemError: no such item.
        """
        return self.artifact.item(*self.artifact.find(item_id))

    def thumbnail(self, item_id: str) -> Picture:
        """A small picture of an image; the file itself where the index has no thumbnails.

        Raises:
            UnknownItemError: no such item.
            NoImageError: a caption, or an image whose file is gone.
        """
        item = self._image_item(item_id)
        data = self.artifact.thumbnail(item.row)
        return self.original(item_id) if data is None else Picture(data, WEBP)

    def original(self, item_id: str) -> Picture:
        """The file that an image was built from.

        Raises:
            UnknownItemError: no such item.
            NoImageError: a caption, or an image whose file is gone.
        """
        item = self._image_item(item_id)
        if item.image is None:
            raise NoImageError(f"the index has no source file of image {brief(item_id)}")
        source = item.image.inside(Path(self.artifact.manifest.gallery))
        if source is None:
            raise NoImageError(
                f"image {brief(item_id)} has no source file inside the gallery's folder"
            )
        try:
            data = source.read_bytes()
        except DataFormatError as error:
            raise NoImageError(
                f"the source file of image {brief(item_id)} cannot be read"
            ) from error
        return Picture(data, _media_type(data, item_id))

    def lists_at_hand(self, way: Way) -> bool:
        """Whether no reverse list has to be looked for or computed: a mapped table has them all."""
        lists = self.cascade.sides[way.candidate].lists
        return lists is None or (isinstance(lists, LayeredLists) and lists.in_table)

    def lookups(self) -> dict[Direction, dict[str, int]]:
        """How many reverse lists each layer gave, by direction of the searches."""
        counts: dict[Direction, dict[str, int]] = {}
        for direction in Direction:
            side = self.cascade.sides.get(direction.candidate)
            if side is not None and isinstance(side.lists, LayeredLists):
                counts[direction] = {name: side.lists.lookups[name] for name in LIST_LAYERS}
        return counts

    def _image_item(self, item_id: str) -> Item:
        item = self.item(item_id)
        if item.modality is not Modality.IMAGE:
            raise NoImageError(f"{brief(item_id)} is a caption, captions have no picture")
        return item

    def _probe_query(self, direction: Direction) -> Query:
        if direction is Direction.TEXT_TO_IMAGE and "query" in self.accepts(direction):
            return TextQuery(PROBE_TEXT)
        return VectorQuery(self.embed_stored([(direction.candidate, 0)])[0].tolist())


def _media_type(data: bytes, item_id: str) -> str:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    for signature, media_type in SIGNATURES.items():
        if data.startswith(signature):
            return media_type
    raise NoImageError(f"the source file of image {brief(item_id)} is no picture any more")
