"""A shard's records to embeddings: given ones taken over, all else through the encoder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from index_builder.pictures import load_pictures
from index_builder.shards import EncodedShard, Rejected
from index_builder.sources import Source
from model.core.errors import DataFormatError
from model.core.types import FloatArray, InputKind, Modality, RowArray
from model.core.vectors import l2_normalised
from model.data.records import Record
from model.data.rows import RowTable
from model.data.selection import Selection
from model.encoders.protocols import Encoder

Progress = Callable[[int], object]


class Route(StrEnum):
    """How the items of one modality become embeddings."""

    GIVEN = "given"
    REGIONS = "regions"
    ENCODED = "encoded"
    ABSENT = "absent"


@dataclass(frozen=True)
class Routes:
    """A route for each modality."""

    image: Route
    text: Route


@dataclass(frozen=True)
class Images:
    """Embeddings (I, D) of record rows (I,), with a thumbnail each or none at all."""

    rows: RowArray
    embeddings: FloatArray
    thumbnails: tuple[bytes, ...] = ()
    rejected: tuple[Rejected, ...] = ()


@dataclass(frozen=True)
class ShardEncoder:
    """Encodes the selected records of one collection, a batch at a time."""

    source: Source
    encoder: Encoder
    routes: Routes
    batch_size: int
    thumbnails: bool
    progress: Progress

    def __call__(self, part: Selection) -> EncodedShard:
        """The records encoded; one whose image cannot be read is left out whole."""
        images = self._images(part.rows[part.with_image])
        good = part.drop(np.array([one.row for one in images.rejected], dtype=np.int64))
        absent = self.routes.text is Route.ABSENT
        text_rows = good.rows[:0] if absent else np.repeat(good.rows, good.n_captions)
        return EncodedShard(
            image_rows=images.rows,
            images=images.embeddings.astype(np.float16),
            thumbnails=images.thumbnails,
            text_rows=text_rows,
            texts=self._texts(good).astype(np.float16),
            rejected=images.rejected,
        )

    def _images(self, rows: RowArray) -> Images:
        match self.routes.image:
            case Route.ABSENT:
                return Images(rows[:0], self._stacked([]))
            case Route.GIVEN:
                vectors = unit_rows(self._given(Modality.IMAGE), rows, self._name("image"))
            case Route.REGIONS:
                vectors = self._regions(rows)
            case Route.ENCODED:
                return self._pictures(rows)
            case _:
                assert_never(self.routes.image)
        self.progress(len(rows))
        return Images(rows, vectors, self._thumbnails(rows))

    def _pictures(self, rows: RowArray) -> Images:
        records = self.source.records(rows)
        refs = [record.image for record in records]
        vectors, pictures = [], []
        for batch in load_pictures(refs, self.batch_size, thumbnails=self.thumbnails):
            images = [one.image for one in batch if one.image is not None]
            if images:
                vectors.append(self.encoder.encode_images(images))
            pictures += [(one.reason, one.thumbnail) for one in batch]  # the pixels may go
            self.progress(len(batch))
        good = np.array([not reason for reason, _ in pictures], dtype=np.bool_)
        found = zip(rows.tolist(), records, pictures, strict=True)
        return Images(
            rows[good],
            self._stacked(vectors),
            tuple(small for reason, small in pictures if not reason) if self.thumbnails else (),
            tuple(_rejected(row, record, why) for row, record, (why, _) in found if why),
        )

    def _regions(self, rows: RowArray) -> FloatArray:
        regions = self.source.collection.regions
        if regions is None:
            raise DataFormatError(f"{self.source.place} has no regions")
        parts = []
        for batch in _batches(rows, self.batch_size):
            block = np.asarray(regions[batch])
            _check_finite(block, batch, _file(regions, self._name("region")))
            parts.append(self.encoder.encode_regions(block))
        return self._stacked(parts)

    def _thumbnails(self, rows: RowArray) -> tuple[bytes, ...]:
        """What thumbnails there can be where the embeddings do not need the images."""
        refs = [record.image for record in self.source.records(rows)] if self.thumbnails else []
        if not any(refs):
            return ()
        batches = load_pictures(refs, self.batch_size, thumbnails=True)
        return tuple(one.thumbnail for batch in batches for one in batch)

    def _texts(self, part: Selection) -> FloatArray:
        """Embeddings (T, D) of the selected captions, in their order."""
        match self.routes.text:
            case Route.ABSENT:
                return self._stacked([])
            case Route.GIVEN:
                rows = self.source.caption_rows(part)
                self.progress(len(rows))
                return unit_rows(self._given(Modality.TEXT), rows, self._name("text"))
            case Route.ENCODED | Route.REGIONS:
                return self._captions(part)
            case _:
                assert_never(self.routes.text)

    def _captions(self, part: Selection) -> FloatArray:
        taken = zip(self.source.records(part.rows), part.n_captions.tolist(), strict=True)
        captions = [caption for record, count in taken for caption in record.captions[:count]]
        parts = []
        for start in range(0, len(captions), self.batch_size):
            parts.append(self.encoder.encode_texts(captions[start : start + self.batch_size]))
            self.progress(len(parts[-1]))
        return self._stacked(parts)

    def _given(self, modality: Modality) -> RowTable:
        return self.source.collection.embeddings[modality]

    def _name(self, what: str) -> str:
        return f"{self.source.place}, {what} vectors"

    def _stacked(self, parts: Sequence[FloatArray]) -> FloatArray:
        empty = np.empty((0, self.encoder.identity.embedding_dim), dtype=np.float32)
        return np.concatenate([empty, *parts])


def routes_of(source: Source, encoder: Encoder) -> Routes:
    """How this collection goes through this encoder.

    Raises:
        UnsupportedInputError: the encoder takes neither the images nor the texts that there are.
        DataFormatError: embeddings of another width than the encoder's.
    """
    _check_widths(source, encoder)
    image = _image_route(source, encoder)
    return Routes(image, _text_route(source, encoder, alone=image is Route.ABSENT))


def _check_widths(source: Source, encoder: Encoder) -> None:
    given = {m: table.shape[1] for m, table in source.collection.embeddings.items()}
    for modality, width in given.items():
        if width != encoder.identity.embedding_dim:
            raise DataFormatError(
                f"{source.place} has {modality} embeddings of D={width}, encoder "
                f"{encoder.identity.name!r} gives D={encoder.identity.embedding_dim}"
            )


def _image_route(source: Source, encoder: Encoder) -> Route:
    """What is given goes before regions, and these before images, as far as the encoder goes."""
    collection, accepts = source.collection, encoder.identity.accepts
    if Modality.IMAGE in collection.embeddings:
        return Route.GIVEN
    if not len(collection.image_rows):
        return Route.ABSENT
    pictured = collection.regions is None or any(one.image for one in collection.records)
    if collection.regions is not None and (InputKind.REGIONS in accepts or not pictured):
        encoder.require(InputKind.REGIONS)
        return Route.REGIONS
    encoder.require(InputKind.IMAGE)
    return Route.ENCODED


def _text_route(source: Source, encoder: Encoder, *, alone: bool) -> Route:
    if Modality.TEXT in source.collection.embeddings:
        return Route.GIVEN
    if not len(source.collection.caption_record):
        return Route.ABSENT
    if InputKind.TEXT in encoder.identity.accepts:
        return Route.ENCODED
    if alone:
        encoder.require(InputKind.TEXT)
    return Route.ABSENT


def _rejected(row: int, record: Record, reason: str) -> Rejected:
    image = record.image
    place = "" if image is None else str(image.path)
    member = f" at byte {image.offset}" if image is not None and image.offset else ""
    return Rejected(row=row, id=record.id, source=f"{place}{member}", reason=reason)


def unit_rows(table: RowTable, rows: RowArray, what: str) -> FloatArray:
    """Unit embeddings (I, D) of the rows asked for.

    Raises:
        DataFormatError: a row with NaN, infinity or zeros only; the message names the first.
    """
    vectors = np.asarray(table[rows], dtype=np.float32)
    place = _file(table, what)
    _check_finite(vectors, rows, place)
    empty = ~vectors.any(axis=1)
    if empty.any():
        row = rows[int(empty.argmax())]
        raise DataFormatError(f"{place}: row {row} is all zeros, an embedding needs a direction")
    return l2_normalised(vectors)


def _check_finite(block: NDArray[np.floating], rows: RowArray, place: str) -> None:
    finite = np.isfinite(block).reshape(len(block), -1).all(axis=1)
    if not finite.all():
        row = rows[int(finite.argmin())]
        raise DataFormatError(f"{place}: row {row} has NaN or infinity, values must be finite")


def _file(table: RowTable, otherwise: str) -> str:
    """The file behind a mapped table, where it is one file."""
    name = getattr(table, "filename", None)
    return otherwise if name is None else str(name)


def _batches(rows: RowArray, size: int) -> Iterator[RowArray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
